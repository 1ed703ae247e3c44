"""File descriptors of this process, which C and C++ libraries write to."""

import contextlib
import os
from collections.abc import Iterator

STDOUT, STDERR = 1, 2


def discard(descriptor: int) -> None:
    """Discards what is written to a descriptor from now on."""
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), descriptor)


@contextlib.contextmanager
def discarded(descriptor: int) -> Iterator[int]:
    """Discards what is written to a descriptor; yields a copy of it that still works."""
    kept = os.dup(descriptor)
    try:
        discard(descriptor)
        yield kept
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
