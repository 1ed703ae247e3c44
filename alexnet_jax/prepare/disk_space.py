"""Estimates of the disk space that a store needs, compared with the free space."""

import shutil
from pathlib import Path

from alexnet_jax.errors import UserError

JPEG_SHRINKS = 6  # a JPEG of quality 90 takes less than its raw bytes divided by this


def store_bytes(images: int, side: int, encoding: str) -> int:
    """Returns an estimate of the bytes of a store of `images` squares of `side` pixels."""
    raw = images * side**2 * 3
    return raw if encoding == "raw" else raw // JPEG_SHRINKS


def image_bytes(directory: Path) -> int:
    """Returns the bytes of images that an earlier run left in the store."""
    return sum(path.stat().st_size for path in directory.glob("*/images.*"))


def check_disk(directory: Path, needed: int) -> None:
    """Raises UserError if fewer than `needed` bytes are free on the store's disk."""
    # The store's folder may not exist yet: its nearest existing parent is on the same disk.
    existing = next(path for path in [directory, *directory.absolute().parents] if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"{directory} needs about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: "
            "make room or give another --dir"
        )
