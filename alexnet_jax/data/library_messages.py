"""Messages that image libraries print, discarded: they name no file and break progress bars."""

import contextlib
import sys
import warnings
from collections.abc import Iterator

from alexnet_jax.disk.descriptors import STDERR, discarded


@contextlib.contextmanager
def library_messages_discarded() -> Iterator[None]:
    """Discards stderr output of C libraries (libtiff, TensorFlow) and warnings of Pillow.

    Python's own sys.stderr, with progress bars and errors, is kept. A broken image still raises an
    error, which its reader reports with the image's name.
    """
    # C libraries write to descriptor 2, which is pointed at nothing. Python writes to a copy of it.
    with contextlib.ExitStack() as stack:
        own = writes_to_stderr(sys.stderr)
        if own:
            sys.stderr.flush()
        kept = stack.enter_context(discarded(STDERR))
        if own:
            file = open(kept, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
            stack.enter_context(contextlib.redirect_stderr(stack.enter_context(file)))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", module="PIL")
        yield


def writes_to_stderr(file: object) -> bool:
    """True if a Python file writes to the process's stderr, unlike one of a notebook or a test."""
    try:
        return file.fileno() == STDERR
    except (AttributeError, OSError, ValueError):
        return False
