"""From stored uint8 images to the net's input, inside the jitted step: crop, flip, mean, colour."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from alexnet_jax.data import Dataset
from alexnet_jax.optim import Schedule, listed
from alexnet_jax.parallel import Layout, rows

Array = jax.Array
COLOURS = ("none", "paper", "code")
# The ten views of §4.1: crops at the four corners and the centre (in halves of the free margin),
# each as it is and mirrored.
CORNERS = ((1, 1), (0, 0), (0, 2), (2, 0), (2, 2))
VIEWS = {
    1: ((1, 1, False),),
    10: tuple((row, column, mirror) for row, column in CORNERS for mirror in (False, True)),
}


class Pixels(NamedTuple):
    """What turns pixels into the net's input.

    mean: float32, 0–255, [crop, crop, 3] or [3]. scale: float32 [3].
    noise: float32 [3, 3], RGB, 0–255; row i is one unit of colour component i (training only).
    """

    mean: Array
    scale: Array
    noise: Array | None = None


def centre_crop(image: np.ndarray, crop: int) -> np.ndarray:
    """The middle `crop`×`crop` pixels of [S, S, 3]; an odd margin leaves more below and right."""
    start = (image.shape[0] - crop) // 2
    return image[start : start + crop, start : start + crop]


def make_pixels(data: ConfigDict, dataset: Dataset) -> Pixels:
    """The input scale that config.data asks for, with this data set's mean and colours."""
    stdevs, components = dataset.colour.stdevs, dataset.colour.components
    if data.input_mean is None:
        mean = centre_crop(dataset.mean_image, data.crop_size)
    else:
        mean = np.asarray(data.input_mean)
    # The paper says eigenvalue of the covariance, which only makes sense for pixels of 0–1;
    # the code that produced its results used the standard deviation of pixels of 0–255.
    strength = {"none": 0 * stdevs, "paper": stdevs**2 / 255, "code": stdevs}[data.augment.colour]
    noise = strength[:, None] * components
    return Pixels(*(jnp.asarray(x, jnp.float32) for x in (mean, data.input_scale, noise)))


def colour_scale(data: ConfigDict, steps_per_epoch: int) -> Schedule:
    """Standard deviation of the colour noise, in components, as a function of the step."""
    augment = data.augment
    first = augment.colour_scale if augment.colour != "none" else 0.0
    changes = augment.colour_listed if augment.colour != "none" else ()
    return listed(first, changes, steps_per_epoch)


def crop(images: Array, rows: Array, columns: Array, size: int) -> Array:
    """[N, S, S, 3] → [N, size, size, 3], each from its own corner (rows, columns: int32 [N])."""

    def one(image: Array, row: Array, column: Array) -> Array:
        return lax.dynamic_slice(image, (row, column, 0), (size, size, 3))

    return jax.vmap(one)(images, rows, columns)


def normalise(images: Array, pixels: Pixels) -> Array:
    """uint8 [N, crop, crop, 3] → the net's float32 input."""
    return (images.astype(jnp.float32) - pixels.mean) * pixels.scale


def training_input(
    images: Array,
    key: Array,
    data: ConfigDict,
    pixels: Pixels,
    colour: Array,
    layout: Layout = Layout(),  # noqa: B008, it is frozen
) -> Array:
    """Random crops, flips and colour noise, each image by itself (paper §4.1).

    Args:
      images: uint8 [N, S, S, 3] as stored.
      key: of this step; everything random is a function of it and of the place in the batch.
      data: config.data.
      pixels: as make_pixels made them.
      colour: standard deviation of the noise at this step, in components; 0 = off.
      layout: of the devices; images are this device's part of the batch.

    Returns:
      float32 [N, crop, crop, 3]. The mean image is cropped at the centre whatever the offset.
    """
    number, side = images.shape[0] * layout.data, images.shape[1]
    margin = side - data.crop_size
    place_key, flip_key, colour_key = jax.random.split(key, 3)
    places = jnp.full((number, 2), margin // 2)
    if data.augment.crop:
        places = jax.random.randint(place_key, (number, 2), 0, margin + 1)
    images = crop(images, *rows(places, layout).T, data.crop_size)
    if data.augment.flip:
        flips = rows(jax.random.bernoulli(flip_key, shape=(number, 1, 1, 1)), layout)
        images = jnp.where(flips, images[:, :, ::-1], images)
    x = images.astype(jnp.float32) - pixels.mean
    if data.augment.colour != "none":
        shift = colour * rows(jax.random.normal(colour_key, (number, 3)), layout) @ pixels.noise
        x = x + shift[:, None, None, :]
    if data.augment.colour == "code":
        x = x / (1 + colour)  # `convdata_jpeg.py` shrinks the whole batch while the noise is on
    return x * pixels.scale


def view_input(
    images: Array, pixels: Pixels, size: int, row: Array, column: Array, mirror: Array
) -> Array:
    """One of the views that a test averages over.

    Args:
      images: uint8 [N, S, S, 3]. size: the crop's side.
      row, column: 0, 1, 2 = the near, middle or far end of the margin. mirror: bool.
    """
    number, side = images.shape[:2]
    margin = side - size
    place = (jnp.broadcast_to(margin * at // 2, number) for at in (row, column))
    images = crop(images, *place, size)
    return normalise(jnp.where(mirror, images[:, :, ::-1], images), pixels)
