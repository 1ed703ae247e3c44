"""One training at a time in a workdir."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from alexnet_jax.errors import UserError

LOCK = "train.lock"


@contextlib.contextmanager
def only_run(workdir: Path) -> Iterator[None]:
    """Holds the workdir; the system lets go of it when this process ends, however it ends.

    Raises UserError if another training holds it.
    """
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
        yield
