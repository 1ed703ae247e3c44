"""The net's input, computed on the device from stored images: crop, flip, mean, colour noise."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from alexnet_jax.data import Dataset
from alexnet_jax.optim.schedules import Schedule, listed

Array = jax.Array
# The ten views of paper §4.1: crops at the four corners and the centre, each as it is and mirrored.
# A corner is (row, column) in halves of the margin, the difference of image and crop.
CORNERS = ((1, 1), (0, 0), (0, 2), (2, 0), (2, 2))
VIEWS = {
    1: ((1, 1, False),),
    10: tuple((row, column, mirror) for row, column in CORNERS for mirror in (False, True)),
}


class InputStats(NamedTuple):
    """The numbers that turn pixels into the net's input: (pixel − mean) · scale.

    Attributes:
      mean: float32 [crop, crop, 3] or [3], 0–255.
      scale: float32 [3], RGB.
      noise: float32 [3, 3], 0–255; row i is the RGB colour that one unit of colour component i
        adds. None in tests, which have no noise.
    """

    mean: Array
    scale: Array
    noise: Array | None = None


def centre_crop(image: np.ndarray, size: int) -> np.ndarray:
    """Returns the middle size×size pixels of an image [S, S, 3].

    If the margin is odd, its smaller half lies above and to the left.
    """
    start = (image.shape[0] - size) // 2
    return image[start : start + size, start : start + size]


def input_stats(data: ConfigDict, dataset: Dataset) -> InputStats:
    """Returns the mean, scale and colour noise that config.data asks for, of this data set."""
    stdevs, components = dataset.colour.stdevs, dataset.colour.components
    if data.input_mean is None:
        mean = centre_crop(dataset.mean_image, data.crop_size)
    else:
        mean = np.asarray(data.input_mean)
    # The paper multiplies by the eigenvalue λ of the covariance (§4.1), which only makes sense for
    # pixels of 0–1: there it is λ ÷ 255², which in units of 0–255 is λ ÷ 255. The released code
    # (`convdata_jpeg.py`) multiplies by the standard deviation √λ.
    strength = {"none": 0 * stdevs, "paper": stdevs**2 / 255, "code": stdevs}[data.augment.colour]
    noise = strength[:, None] * components
    return InputStats(*(jnp.asarray(x, jnp.float32) for x in (mean, data.input_scale, noise)))


def colour_scale(data: ConfigDict, steps_per_epoch: int) -> Schedule:
    """Returns the standard deviation of the colour noise as a function of the step.

    It is a factor on `InputStats.noise`: 0.1 in the paper; 0 turns the noise off.
    """
    augment = data.augment
    if augment.colour == "none":
        return listed(0.0, (), steps_per_epoch)
    return listed(augment.colour_scale, augment.colour_listed, steps_per_epoch)


def crop(image: Array, row: Array | int, column: Array | int, size: int) -> Array:
    """Returns size×size pixels of an image [S, S, 3], whose first is at (row, column)."""
    # dynamic_slice, because under jit the corner is a traced value.
    return lax.dynamic_slice(image, (row, column, 0), (size, size, 3))


def make_augment(data: ConfigDict) -> Callable[..., Array]:
    """Returns the random crop, flip and colour noise of one image (paper §4.1).

    The result is a function of (image, key, stats, colour):
      image: uint8 [S, S, 3] as stored.
      key: of this image at this step; everything random is a function of the key.
      stats: as input_stats returns them.
      colour: standard deviation of the noise at this step, as colour_scale returns it.
    It returns float32 [crop, crop, 3]. Whatever the offset of the crop, the centre of the mean
    image is subtracted, as in the released code (`convdata_jpeg.py`).
    """
    size, style = data.crop_size, data.augment.colour

    def augment(image: Array, key: Array, stats: InputStats, colour: Array) -> Array:
        # Always three keys, so that without flips the crops are the same as with them.
        crop_key, flip_key, colour_key = jax.random.split(key, 3)
        margin = image.shape[0] - size
        corner = jnp.full(2, margin // 2)  # the centre, unless crops are random
        if data.augment.crop:
            # 0 to margin inclusive: 33 offsets for 224 of 256 pixels, as in the released code. The
            # paper's factor of 2,048 implies 32 (§4.1).
            corner = jax.random.randint(crop_key, (2,), 0, margin + 1)
        image = crop(image, *corner, size)
        if data.augment.flip:
            image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
        x = image.astype(jnp.float32) - stats.mean
        if style != "none":
            # One draw for all pixels of an image: the colour of the light changes (paper §4.1).
            x = x + colour * jax.random.normal(colour_key, (3,)) @ stats.noise
        if style == "code":
            x = x / (1 + colour)  # `convdata_jpeg.py` divides by 1.1 while the noise of 0.1 is on
        return x * stats.scale

    return augment


def augment_batch(
    images: Array, key: Array, examples: Array, data: ConfigDict, stats: InputStats, colour: Array
) -> Array:
    """Augments every image of a batch on its own.

    Args:
      images: uint8 [N, S, S, 3] as stored.
      key: of this step.
      examples: int32 [N], positions of the images in the whole batch. They and the key decide
        everything random, so that a batch divided over devices is augmented as on one device.
      data: config.data.
      stats, colour: as `make_augment` takes them.

    Returns:
      float32 [N, crop, crop, 3].
    """
    augment = make_augment(data)

    def of_example(image: Array, example: Array) -> Array:
        return augment(image, jax.random.fold_in(key, example), stats, colour)

    return jax.vmap(of_example)(images, examples)


def view(
    images: Array, stats: InputStats, size: int, row: Array, column: Array, mirror: Array
) -> Array:
    """Returns one of the views that a test averages over, as the net's input.

    Args:
      images: uint8 [N, S, S, 3].
      stats: the mean and the scale.
      size: side of the crop in pixels.
      row, column: 0, 1 or 2 for the near end, the middle or the far end of the margin.
      mirror: bool; True flips the images horizontally.

    Returns:
      float32 [N, size, size, 3].
    """
    margin = images.shape[1] - size
    corner = (margin * row // 2, margin * column // 2)
    images = jax.vmap(lambda image: crop(image, *corner, size))(images)
    images = jnp.where(mirror, images[:, :, ::-1], images)
    return (images.astype(jnp.float32) - stats.mean) * stats.scale
