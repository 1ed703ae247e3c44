"""A disk that is full, as far as this process can tell."""

import contextlib
import resource


@contextlib.contextmanager
def files_up_to(size):
    """No file may become longer than this many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
