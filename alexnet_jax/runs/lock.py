"""The lock of a workdir: one training at a time."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from alexnet_jax.errors import UserError

LOCK = "train.lock"


@contextlib.contextmanager
def only_run(workdir: Path) -> Iterator[None]:
    """Creates the workdir and locks it; the system releases the lock when this process ends.

    A run that fails before its first step writes nothing: the folders created for it are removed.

    Raises:
      UserError: another training holds the lock.
    """
    # Innermost first, to be removed in this order.
    created = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
    workdir.mkdir(parents=True, exist_ok=True)
    # A killed process loses its lock on an open file, while a lock made of a file's mere existence
    # would outlive it.
    with (workdir / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another training is running in workdir {workdir}; wait for its end, or give "
                "another --workdir"
            ) from error
        except OSError as error:
            # Some network drives have no locks; a run on one of them must still be possible.
            print(f"{workdir} cannot be locked ({error.strerror}): start no second training in it")
        try:
            yield
        finally:
            _remove_traces(workdir, created)


def _remove_traces(workdir: Path, created: list[Path]) -> None:
    """Removes the lock of a run that wrote nothing else, and the empty folders it created."""
    if [entry.name for entry in workdir.iterdir()] == [LOCK]:
        (workdir / LOCK).unlink()
        with contextlib.suppress(OSError):  # another run has written into a parent meanwhile
            for folder in created:
                folder.rmdir()
