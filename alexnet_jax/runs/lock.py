"""The lock of a workdir: one training at a time."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from alexnet_jax.errors import UserError

LOCK = "train.lock"


@contextlib.contextmanager
def only_run(workdir: Path) -> Iterator[None]:
    """Makes the workdir and holds it; the system releases it when this process ends.

    A workdir in which the run wrote nothing, because it failed before its first step, is removed.

    Raises:
      UserError: another training holds it.
    """
    existed = workdir.exists()
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another training is running in workdir {workdir}; wait for its end, or give "
                "another --workdir"
            ) from error
        except OSError as error:
            print(f"{workdir} cannot be locked ({error.strerror}): start no second training in it")
        try:
            yield
        finally:
            _remove_traces(workdir, existed)


def _remove_traces(workdir: Path, existed: bool) -> None:
    """Removes the lock of a run that wrote nothing else, and the folder if it made it."""
    if [entry.name for entry in workdir.iterdir()] == [LOCK]:
        (workdir / LOCK).unlink()
        if not existed:
            workdir.rmdir()
