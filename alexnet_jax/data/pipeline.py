"""From a split to batches of uint8 images: the order, and two ways to read.

The order of the training images is a function of (seed, epoch), so step k can be started from
without what came before. A raw split that fits stays on the device; others stream through tf.data.
Both give the same batches. A batch is a dict of `image` uint8 [B, S, S, 3], `label` int32 [B] and
`mask` float32 [B]: 1 for an image, 0 for what pads the last batch of a pass.
"""

import functools
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.data.lazy_tensorflow import tensorflow
from alexnet_jax.data.store import JpegRecords, Split
from alexnet_jax.errors import UserError

if TYPE_CHECKING:
    import tensorflow as tf

Batch = dict[str, np.ndarray | jax.Array]
Order = Callable[[int], np.ndarray]  # the numbers of the images in a batch, int64
BATCHES_AHEAD = 4  # read and decoded before they are asked for

_ON_DEVICE: weakref.WeakKeyDictionary[Split, jax.Array] = weakref.WeakKeyDictionary()


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Batches in a pass over num_images, the last of them perhaps padded."""
    return -(-num_images // batch_size)


def training_batches(
    split: Split, batch_size: int, *, seed: int, first_step: int, device_bytes: int
) -> Iterator[Batch]:
    """Endless batches in a new order every epoch, from batch number first_step on.

    They are those that an uninterrupted run would see from that step on; nothing before is read.
    A split of at most device_bytes bytes of raw pixels is held on the device. Raises UserError that
    names a record which is corrupt or does not decode.
    """

    order = functools.partial(training_indices, len(split), batch_size, seed)
    return batches(split, order, range(first_step, sys.maxsize), batch_size, device_bytes)


def evaluation_batches(split: Split, batch_size: int, *, device_bytes: int) -> Iterator[Batch]:
    """Batches with each image of the split exactly once, in order. Otherwise as training's."""

    def order(step: int) -> np.ndarray:
        return piece(np.arange(len(split)), batch_size, step)

    steps = range(steps_per_epoch(len(split), batch_size))
    return batches(split, order, steps, batch_size, device_bytes)


def training_indices(num_images: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """The numbers of the images in training batch `step`: int64, batch_size of them or fewer."""
    epoch, step = divmod(step, steps_per_epoch(num_images, batch_size))
    return piece(permutation(num_images, seed, epoch), batch_size, step)


@functools.lru_cache(maxsize=4)
def permutation(num_images: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch: int64 [num_images]."""
    return np.random.default_rng((seed, epoch)).permutation(num_images)


def piece(order: np.ndarray, batch_size: int, step: int) -> np.ndarray:
    """The part of an epoch's order that is its batch `step`; the last one may be shorter."""
    return order[step * batch_size : (step + 1) * batch_size]


def padded(indices: np.ndarray, batch_size: int) -> np.ndarray:
    """The indices, the first of them repeated at the end until there are batch_size."""
    return np.pad(indices, (0, batch_size - len(indices)), constant_values=indices[0])


def batches(
    split: Split, order: Order, steps: range, batch_size: int, device_bytes: int
) -> Iterator[Batch]:
    """The batches of the image numbers order(step) for each of the steps, padded to batch_size."""
    on_device = raw_bytes(split) <= device_bytes
    images = (gathered if on_device else streamed)(split, order, steps, batch_size)
    for step, image in zip(steps, images, strict=True):
        indices = order(step)
        yield {
            "image": image,
            "label": np.asarray(split.labels[padded(indices, batch_size)], np.int32),
            "mask": (np.arange(batch_size) < len(indices)).astype(np.float32),
        }


def raw_bytes(split: Split) -> float:
    """Bytes of the split's pixels; infinite where they are not stored raw."""
    if isinstance(split.images, JpegRecords):
        return float("inf")
    return len(split) * np.prod(split.images.shape[1:], dtype=float)


def rows_of(split: Split, indices: np.ndarray) -> np.ndarray:
    """Where the images of these numbers stand in split.images."""
    return indices if split.rows is None else split.rows[indices]


def gathered(split: Split, order: Order, steps: range, batch_size: int) -> Iterator[jax.Array]:
    """Images picked on the device, to which the split is copied on first use and stays."""
    if split not in _ON_DEVICE:
        rows = rows_of(split, np.arange(len(split)))
        _ON_DEVICE[split] = jax.device_put(np.asarray(split.images[rows]))
    images = _ON_DEVICE[split]
    for step in steps:
        yield pick(images, padded(order(step), batch_size))


@jax.jit
def pick(images: jax.Array, indices: jax.Array) -> jax.Array:
    """images[indices], for indices that are known to be valid."""
    return jnp.take(images, indices, axis=0, mode="clip")


def streamed(split: Split, order: Order, steps: range, batch_size: int) -> Iterator[np.ndarray]:
    """Images read, decoded and batched ahead by tf.data."""
    tf = tensorflow()

    def rows(step: int) -> np.ndarray:
        return rows_of(split, padded(order(int(step)), batch_size))

    source = tf.data.Dataset.range(steps.start, steps.stop)
    source = source.map(lambda step: tf.numpy_function(rows, [step], tf.int64))
    read = jpeg_images if isinstance(split.images, JpegRecords) else raw_images
    dataset = read(source, split, batch_size).prefetch(BATCHES_AHEAD)
    images = dataset.as_numpy_iterator()
    for step in steps:
        try:
            image = next(images)
        except tf.errors.OpError:
            name_broken(split, order(step))
            raise
        yield image


def raw_images(source: "tf.data.Dataset", split: Split, batch_size: int) -> "tf.data.Dataset":
    """Batches of rows to batches of images from an array or a memory-mapped file."""
    tf = tensorflow()
    shape = (batch_size, *split.images.shape[1:])

    def read(rows: tf.Tensor) -> tf.Tensor:
        images = tf.numpy_function(lambda r: np.take(split.images, r, axis=0), [rows], tf.uint8)
        return tf.ensure_shape(images, shape)

    return source.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def jpeg_images(source: "tf.data.Dataset", split: Split, batch_size: int) -> "tf.data.Dataset":
    """Batches of rows to batches of images decoded from JPEG records, several at a time."""
    tf = tensorflow()
    side = split.images.image_size

    def read(rows: tf.Tensor) -> tf.Tensor:
        records = tf.numpy_function(
            lambda r: np.array(split.images.read(r), dtype=object), [rows], tf.string
        )
        return tf.ensure_shape(records, [batch_size])

    def decode(record: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_jpeg(record, channels=3, dct_method="INTEGER_ACCURATE")
        return tf.ensure_shape(image, [side, side, 3])

    records = source.map(read).prefetch(BATCHES_AHEAD).unbatch()
    images = records.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return images.batch(batch_size, drop_remainder=True)


def name_broken(split: Split, indices: np.ndarray) -> None:
    """Raises UserError for the first of these images that cannot be read or decoded."""
    tf = tensorflow()
    for row in rows_of(split, indices):
        try:
            tf.io.decode_jpeg(split.images.read([row])[0], channels=3)
        except (RuntimeError, tf.errors.OpError) as error:
            raise UserError(
                f"image {row} of {split.images.path} cannot be read "
                f"({str(error).splitlines()[0][:100]}): remove the store and prepare it again"
            ) from error
