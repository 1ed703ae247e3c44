"""K-means features: the strongest features of 2011 that need no labels (Coates, Lee and Ng).

A dictionary of centres is learned from whitened random patches. Every patch of an image is coded by
its distances to the centres, and the codes are summed over the cells of a coarse grid. Source: "An
Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS 2011, sections 3 and 4.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.cluster import KMeans

from alexnet_jax.baseline.patches import Whitening, normalise, random_patches, zca
from alexnet_jax.data import Split

ITERATIONS = 50  # of k-means, at most
# Standard deviation of the first centres, as in Coates' released program. Whitened patches are ten
# times as long, so every centre gets some. Started at random patches, one centre in twenty would
# keep a single outlier, which costs a point of accuracy.
START = 0.1


@dataclass(frozen=True)
class Form:
    """The sizes of k-means features."""

    centres: int  # of the dictionary
    patch: int  # pixels, side of a patch
    stride: int  # pixels between two patches
    pool: int  # cells along each side of the grid that codes are summed over

    def positions(self, image_size: int) -> int:
        """Returns the number of patches along each side of an image."""
        return (image_size - self.patch) // self.stride + 1

    @property
    def features(self) -> int:
        """Returns the number of features of an image."""
        return self.pool**2 * self.centres


class Dictionary(NamedTuple):
    """A whitening of patches, and centres among the whitened patches: float32 [K, D]."""

    whitening: Whitening
    centres: np.ndarray


def learn(split: Split, form: Form, num_patches: int, seed: int) -> Dictionary:
    """Returns the dictionary of num_patches random patches of the split; labels are not used."""
    raw = random_patches(split, num_patches, form.patch, seed)
    patches = normalise(raw.astype(np.float32))
    whitening = zca(patches)
    patches = (patches - whitening.mean) @ whitening.matrix
    rng = np.random.default_rng(seed)
    start = rng.normal(0, START, (form.centres, patches.shape[1])).astype(np.float32)
    found = KMeans(form.centres, init=start, n_init=1, max_iter=ITERATIONS, random_state=seed)
    return Dictionary(whitening, found.fit(patches).cluster_centers_)


def encoder(dictionary: Dictionary, form: Form) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a compiled function: uint8 [N, S, S, 3] → float32 [N, pool²·K].

    One image at a time: the codes of a larger batch would not fit in a processor's cache.
    """

    @jax.jit
    def encode(dictionary: Dictionary, images: jax.Array) -> jax.Array:
        return jax.lax.map(functools.partial(encode_one, dictionary, form), images)

    return lambda images: np.asarray(encode(dictionary, images))


def encode_one(dictionary: Dictionary, form: Form, image: jax.Array) -> jax.Array:
    """Returns the features of one image: uint8 [S, S, 3] → float32 [pool²·K]."""
    patches = normalise(all_patches(image.astype(jnp.float32), form))
    mean, matrix = dictionary.whitening
    codes = triangle((patches - mean) @ matrix, dictionary.centres)
    return (pooling_matrix(form.positions(image.shape[0]), form.pool) @ codes).ravel()


def all_patches(image: jax.Array, form: Form) -> jax.Array:
    """Returns the patches of one image [S, S, C], row by row: [positions², patch·patch·C]."""
    count, steps = form.positions(image.shape[0]), range(form.patch)
    reach = (count - 1) * form.stride + 1
    pixels = [
        image[y : y + reach : form.stride, x : x + reach : form.stride]
        for y in steps
        for x in steps
    ]
    return jnp.concatenate(pixels, axis=-1).reshape(count * count, -1)


def triangle(patches: jax.Array, centres: jax.Array) -> jax.Array:
    """Returns the triangle code f_k = max(0, mean(z) − z_k), z_k = ‖x − c_k‖: [P, D] → [P, K].

    A centre that is farther away than the average centre has the code 0 (section 3.2.2).
    """
    # ‖x‖² + ‖c‖² − 2 x·c: one matrix product; rounding can make a small distance negative.
    squares = (patches**2).sum(1, keepdims=True) + (centres**2).sum(1)
    distances = jnp.sqrt(jnp.maximum(squares - 2 * patches @ centres.T, 0))
    return jnp.maximum(distances.mean(1, keepdims=True) - distances, 0)


def pooling_matrix(positions: int, pool: int) -> np.ndarray:
    """Returns the matrix that sums codes over cells: float32 [pool², positions²].

    It is 1 where the patch at a position lies in a cell, otherwise 0. With pool=2 the cells are the
    image's quadrants; a middle row belongs to the upper ones, a middle column to the left ones.
    """
    bounds = np.ceil(np.arange(1, pool) * positions / pool)
    cell = np.searchsorted(bounds, np.arange(positions), side="right")
    along = np.arange(pool)[:, None] == cell
    return np.kron(along, along).astype(np.float32)
