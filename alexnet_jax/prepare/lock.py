"""The lock of a store that is being written: one command at a time."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from alexnet_jax.disk.lock import only_writer
from alexnet_jax.errors import UserError

LOCK = "prepare.lock"


@contextlib.contextmanager
def only_preparation(directory: Path) -> Iterator[None]:
    """Creates and locks the folder of a store, as `only_writer` does.

    Raises UserError if that is not possible, or another command is writing the store.
    """
    busy = f"another command is writing the store in {directory}: wait for its end"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(only_writer(directory, LOCK, busy))
        except OSError as error:
            raise UserError(
                f"{directory} cannot be written ({error.strerror}): give another --dir"
            ) from error
        yield
