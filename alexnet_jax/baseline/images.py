"""The images of a split, read in blocks; a corrupt one is an error."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from alexnet_jax.data import Split
from alexnet_jax.data.records import read_images, rows_of

BLOCK = 500  # images


def blocks(split: Split) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields every image once, in order, as (its place in the split, uint8 [B, S, S, 3])."""
    for start in range(0, len(split), BLOCK):
        block = slice(start, min(start + BLOCK, len(split)))
        yield block, read_images(split, np.arange(block.start, block.stop))


def limit(split: Split, count: int, seed: int) -> Split:
    """Returns `count` random images of a split, or the split itself if it has no more.

    They keep their order, so that the store is read from front to back.
    """
    if count >= len(split):
        return split
    chosen = np.sort(np.random.default_rng(seed).permutation(len(split))[:count])
    labels = np.asarray(split.labels)[chosen]
    return dataclasses.replace(split, labels=labels, rows=rows_of(split, chosen))
