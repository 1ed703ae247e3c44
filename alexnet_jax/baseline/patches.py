"""Small square patches of images: random samples, contrast normalisation, ZCA whitening.

The steps and their constants are those of Coates, Lee and Ng, "An Analysis of Single-Layer Networks
in Unsupervised Feature Learning" (AISTATS 2011), section 3.1.
"""

from typing import NamedTuple, TypeVar

import jax
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from alexnet_jax.baseline.images import blocks
from alexnet_jax.data import Split

CONTRAST_FLOOR = 10.0  # added to a patch's variance, in squared grey levels (0–255)
WHITENING_FLOOR = 0.1  # added to the eigenvalues of the patches' covariance

Array = TypeVar("Array", np.ndarray, jax.Array)


class Whitening(NamedTuple):
    """An affine map of patches, x → (x − mean) @ matrix."""

    mean: np.ndarray  # float32 [D]
    matrix: np.ndarray  # float32 [D, D], symmetric


def cut(images: np.ndarray, side: int) -> np.ndarray:
    """Returns a view of every patch: [N, S − side + 1, S − side + 1, 3, side, side]."""
    return sliding_window_view(images, (side, side), axis=(1, 2))


def random_patches(split: Split, count: int, side: int, seed: int) -> np.ndarray:
    """Returns uint8 [count, side·side·3] patches (row, column, channel) at random places.

    The numbers of patches of any two images differ by at most one.
    """
    rng = np.random.default_rng(seed)
    owners = np.sort(rng.permutation(len(split))[np.arange(count) % len(split)])
    found = np.empty((count, side, side, 3), np.uint8)
    for block, images in blocks(split):
        own = slice(*np.searchsorted(owners, [block.start, block.stop]))
        places = images.shape[1] - side + 1
        row, column = rng.integers(places, size=(2, own.stop - own.start))
        windows = cut(images, side)[owners[own] - block.start, row, column]
        found[own] = windows.transpose(0, 2, 3, 1)
    return found.reshape(count, -1)


def normalise(patches: Array) -> Array:
    """Removes the brightness and contrast of each patch: (x − mean) ÷ √(variance + 10).

    Patches are float32 [..., D] in grey levels from 0 to 255. Mean and variance are those of the D
    values of a patch.
    """
    centred = patches - patches.mean(-1, keepdims=True)
    return centred / ((centred * centred).mean(-1, keepdims=True) + CONTRAST_FLOOR) ** 0.5


def zca(patches: np.ndarray) -> Whitening:
    """Returns the ZCA whitening of float32 [N, D] patches: V (Λ + 0.1)^(−1/2) Vᵀ.

    V and Λ are the eigenvectors and eigenvalues of the patches' covariance.
    """
    mean = patches.mean(0, dtype=np.float64)
    centred = patches - mean.astype(np.float32)
    covariance = (centred.T @ centred).astype(np.float64) / len(patches)
    values, vectors = np.linalg.eigh(covariance)
    # Rounding can make an eigenvalue slightly negative.
    matrix = vectors / np.sqrt(np.maximum(values, 0) + WHITENING_FLOOR) @ vectors.T
    return Whitening(mean.astype(np.float32), matrix.astype(np.float32))
