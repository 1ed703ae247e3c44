"""A full disk: how its errors are recognised, and whether the run ends or goes on."""

import errno
import os

from alexnet_jax.errors import UserError

CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, over the quota, file too large
STOP, CONTINUE = "stop", "continue"


def is_full(error: BaseException | None) -> bool:
    """True if the error, or any error in its cause chain, means "no space left"."""
    if error is None:
        return False
    # By the text, not by errno: orbax raises a ValueError that only quotes the system's message.
    found = any(os.strerror(code) in str(error) for code in CODES)
    return found or is_full(error.__cause__ or error.__context__)


def advice(loss: str) -> str:
    """Returns the error message of a run that a full disk stops.

    Args:
      loss: the data that are not written, for people.
    """
    return f"the disk is full: {loss}; make room and give the same command again"


def report(loss: str, error: BaseException, on_full_disk: str) -> None:
    """Prints that the disk is full if the run is to go on.

    Args:
      loss: the file and the data that are not written to it, for people.
      error: raised by the write.
      on_full_disk: "stop" or "continue".

    Raises:
      UserError: the disk is full and the run is to stop.
      BaseException: `error` itself, if it means anything else.
    """
    if not is_full(error):
        raise error
    if on_full_disk == STOP:
        raise UserError(advice(loss)) from error
    print(f"the disk is full: {loss}; going on (checkpoint.on_full_disk)", flush=True)
