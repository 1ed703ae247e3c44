"""Errors of the file system as one line for the user."""

import contextlib
from collections.abc import Iterator

from alexnet_jax.errors import UserError


@contextlib.contextmanager
def unreadable_named() -> Iterator[None]:
    """Turns an error in reading the user's files into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}): mend or remove it"
        ) from error
