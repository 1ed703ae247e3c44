"""The features of many images in one array, standardised for a linear classifier."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from alexnet_jax.baseline.images import blocks
from alexnet_jax.data import Split

VARIANCE_FLOOR = 0.01  # added to a feature's variance (Coates' released program)
COLUMNS = 256  # features that are measured at once

Encode = Callable[[np.ndarray], np.ndarray]  # uint8 [N, S, S, 3] → float32 [N, D]


class Moments(NamedTuple):
    """The mean and √(variance + 0.01) of each feature: float32 [D]."""

    mean: np.ndarray
    scale: np.ndarray


def encode_all(splits: Sequence[Split], encode: Encode, width: int) -> np.ndarray:
    """Returns the features of these splits' images, one split after the other.

    The result is float32 [N, width + 1]. The last column is all ones, so that its weight is the
    classifier's bias.
    """
    features = np.ones((sum(map(len, splits)), width + 1), np.float32)
    first = 0
    for split in splits:
        rows = features[first : first + len(split), :-1]
        for block, images in blocks(split):
            rows[block] = encode(images)
        first += len(split)
    return features


def moments(features: np.ndarray) -> Moments:
    """Returns the moments of every column but the last of float32 [N, D + 1]."""
    mean, scale = np.empty((2, features.shape[1] - 1), np.float32)
    # In blocks of columns: a float64 copy of all features would take twice their memory.
    for start in range(0, len(mean), COLUMNS):
        columns = slice(start, min(start + COLUMNS, len(mean)))
        sample = features[:, columns].astype(np.float64)
        mean[columns] = sample.mean(0)
        scale[columns] = np.sqrt(sample.var(0) + VARIANCE_FLOOR)
    return Moments(mean, scale)


def standardise(features: np.ndarray, measured: Moments) -> None:
    """Replaces x by (x − mean) ÷ scale in every column but the last of float32 [N, D + 1]."""
    features[:, :-1] -= measured.mean
    features[:, :-1] /= measured.scale
