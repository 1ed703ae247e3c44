"""Whether an error means that the disk is full, and what a run then does."""

import errno
import os

from alexnet_jax.errors import UserError

CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, over the quota, file too large
STOP, CONTINUE = "stop", "continue"


def is_full(fault: BaseException | None) -> bool:
    """Whether this error, or one that it stems from, is of a full disk."""
    if fault is None:
        return False
    said = any(os.strerror(code) in str(fault) for code in CODES)  # orbax's is a ValueError
    return said or is_full(fault.__cause__ or fault.__context__)


def advice(what: str) -> str:
    """What a run that ends says."""
    return f"the disk is full: {what}; make room and give the same command again"


def tell(what: str, fault: BaseException, on_full_disk: str) -> None:
    """Raises UserError, or only says so where the run is to go on.

    what: the file and its loss, for a person. Any other error is raised as it is.
    """
    if not is_full(fault):
        raise fault
    if on_full_disk == STOP:
        raise UserError(advice(what)) from fault
    print(f"the disk is full: {what}; going on (checkpoint.on_full_disk)", flush=True)
