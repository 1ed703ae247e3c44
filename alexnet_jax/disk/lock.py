"""The lock of a folder that one process at a time may write to."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from alexnet_jax.errors import UserError


@contextlib.contextmanager
def only_writer(folder: Path, name: str, busy: str) -> Iterator[None]:
    """Creates the folder and locks a file in it; the system releases the lock with the process.

    If nothing else is written into the folder, the file and the folders created for it are removed.

    Args:
      folder: to lock.
      name: of the file.
      busy: message if another process holds the lock.

    Raises:
      UserError: another process holds the lock.
    """
    # Innermost first, to be removed in this order.
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    # A killed process loses its lock on an open file, while a lock made of a file's mere existence
    # would outlive it.
    with (folder / name).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(busy) from error
        except OSError as error:
            # Some network drives have no locks, and must be usable all the same.
            print(f"{folder} cannot be locked ({error.strerror}): start no second command in it")
        try:
            yield
        finally:
            _remove_traces(folder, name, created)


def _remove_traces(folder: Path, name: str, created: list[Path]) -> None:
    """Removes the lock's file if the folder holds nothing else, and the empty folders created."""
    if [entry.name for entry in folder.iterdir()] == [name]:
        (folder / name).unlink()
        with contextlib.suppress(OSError):  # another process has written into a parent meanwhile
            for path in created:
                path.rmdir()
