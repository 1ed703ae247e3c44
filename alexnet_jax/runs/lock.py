"""The lock of a workdir: one training at a time."""

from contextlib import AbstractContextManager
from pathlib import Path

from alexnet_jax.disk.lock import only_writer


def only_run(workdir: Path) -> AbstractContextManager[None]:
    """Creates and locks the workdir, as `only_writer` does.

    A run that fails before its first step writes nothing: the folders created for it are removed.

    Raises:
      UserError: another training holds the lock.
    """
    busy = (
        f"another training is running in workdir {workdir}; wait for its end, or give another "
        "--workdir"
    )
    return only_writer(workdir, "train.lock", busy)
