"""Dense local descriptors: SIFT (Lowe, IJCV 2004) and colour statistics, on a grid of patches.

A patch of 4×4 bins lies every few pixels, in several sizes. Both descriptors weight a pixel by its
distance to the bins' centres, so that each is two matrix products with the same matrix.
"""

import jax
import jax.numpy as jnp
import numpy as np

BINS = 4  # along each side of a patch
BIN_SIDES = (3, 4, 6)  # pixels: patches of 12, 16 and 24
STEP = 3  # pixels between two patches
SMALLEST = BINS * max(BIN_SIDES)  # pixels, side of the smallest image
ORIENTATIONS = 8
CLIP = 0.2  # of a normalised SIFT descriptor (Lowe, section 6.1)
LUMA = (0.299, 0.587, 0.114)  # of R, G and B in grey (ITU-R BT.601)
FLOOR = 1e-4  # added to norms, for patches without contrast


def positions(image_size: int, bin_side: int) -> int:
    """Returns the number of patches along each side of an image."""
    return (image_size - BINS * bin_side) // STEP + 1


def bin_weights(image_size: int, bin_side: int) -> np.ndarray:
    """Returns the weight of each pixel in each bin along one axis: float32 [positions·4, S].

    The weight falls linearly from 1 at the bin's centre to 0 at the centres of its neighbours.
    """
    first = np.arange(positions(image_size, bin_side)) * STEP
    centres = first[:, None] + (np.arange(BINS) + 0.5) * bin_side
    distance = np.abs(np.arange(image_size) + 0.5 - centres.reshape(-1, 1))
    return np.maximum(0, 1 - distance / bin_side).astype(np.float32)


def binned(maps: jax.Array, weights: np.ndarray) -> jax.Array:
    """Returns the weighted sums of [S, S, C] maps in the bins of each patch: [patches, 16, C]."""
    count = len(weights) // BINS
    sums = jnp.einsum("by,yxc,dx->bdc", weights, maps, weights)
    sums = sums.reshape(count, BINS, count, BINS, -1).transpose(0, 2, 1, 3, 4)
    return sums.reshape(count * count, BINS * BINS, -1)


def orientation_maps(image: jax.Array) -> jax.Array:
    """Returns the gradient's magnitude by orientation: float32 [S, S, 3] → [S, S, 8].

    A gradient is divided between the two nearest of eight orientations, linearly.
    """
    dy, dx = jnp.gradient(image @ jnp.asarray(LUMA))
    turn = jnp.arctan2(dy, dx) * (ORIENTATIONS / (2 * jnp.pi))
    # Orientations lie on a circle: the last one is a neighbour of the first.
    away = jnp.abs(turn[..., None] - jnp.arange(ORIENTATIONS)) % ORIENTATIONS
    share = jnp.maximum(0, 1 - jnp.minimum(away, ORIENTATIONS - away))
    return jnp.hypot(dy, dx)[..., None] * share


def sift(image: jax.Array) -> jax.Array:
    """Returns SIFT descriptors of every patch, sizes one after the other: [patches, 128].

    They have length 1; their entries are clipped at 0.2 and then normalised again.
    """
    maps = orientation_maps(image)
    found = [binned(maps, bin_weights(len(image), side)) for side in BIN_SIDES]
    flat = jnp.concatenate(found).reshape(-1, BINS * BINS * ORIENTATIONS)
    return _unit(jnp.minimum(_unit(flat), CLIP))


def _unit(rows: jax.Array) -> jax.Array:
    return rows / (jnp.linalg.norm(rows, axis=1, keepdims=True) + FLOOR)


def colour(image: jax.Array) -> jax.Array:
    """Returns mean and standard deviation of R, G and B in the bins of each patch: [patches, 96].

    The unit is 255 grey levels. Source: Perronnin, Sánchez and Mensink, ECCV 2010, section 5.
    """
    moments = jnp.concatenate([image, image**2], axis=-1) / jnp.array([255] * 3 + [255**2] * 3)
    found = []
    for side in BIN_SIDES:
        weights = bin_weights(len(image), side)
        found.append(binned(moments, weights / weights.sum(1, keepdims=True)))
    mean, square = jnp.split(jnp.concatenate(found), 2, axis=-1)
    # Rounding can make the variance of an even bin slightly negative.
    spread = jnp.sqrt(jnp.maximum(square - mean**2, 0))
    return jnp.concatenate([mean, spread], axis=-1).reshape(len(mean), -1)


def places(image_size: int) -> np.ndarray:
    """Returns the centres of every patch as (row, column), from −0.5 to 0.5: [patches, 2]."""
    found = []
    for side in BIN_SIDES:
        along = np.arange(positions(image_size, side)) * STEP + BINS * side / 2
        found.append(np.stack(np.meshgrid(along, along, indexing="ij"), -1).reshape(-1, 2))
    return (np.concatenate(found) / image_size - 0.5).astype(np.float32)
