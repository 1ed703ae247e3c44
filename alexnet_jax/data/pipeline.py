"""From a split to batches of uint8 images: the order, and two ways to read.

The order of the training images is a function of (seed, epoch), so step k can be started from
without what came before. A raw split that fits stays on the device; others stream through tf.data.
Both give the same batches. A batch is a dict of `image` uint8 [B, S, S, 3], `label` int32 [B] and
`mask` float32 [B]: 1 for an image, 0 for what pads the last batch of a pass and for a corrupt image
that is skipped. Where several processes train together each reads only the `share` of the images
that its devices need; labels and mask are of the whole batch.
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
from alexnet_jax.data.records import Records, rows_of
from alexnet_jax.data.store import JpegRecords, Split
from alexnet_jax.errors import UserError

if TYPE_CHECKING:
    import tensorflow as tf

Batch = dict[str, np.ndarray | jax.Array]
Order = Callable[[int], np.ndarray]  # the numbers of the images in a batch, int64
WHOLE = slice(None)
BATCHES_AHEAD = 4  # read and decoded before they are asked for

_ON_DEVICE: weakref.WeakKeyDictionary[Split, tuple[jax.Array, dict[int, str]]]
_ON_DEVICE = weakref.WeakKeyDictionary()


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Batches in a pass over num_images, the last of them perhaps padded."""
    return -(-num_images // batch_size)


def training_batches(
    split: Split,
    batch_size: int,
    *,
    seed: int,
    first_step: int,
    device_bytes: int,
    share: slice = WHOLE,
    on_bad_record: str = "fail",
) -> Iterator[Batch]:
    """Endless batches in a new order every epoch, from batch number first_step on.

    They are those that an uninterrupted run would see from that step on; nothing before is read.
    A split of at most device_bytes bytes of raw pixels is held on the device. Raises UserError that
    names a record which is corrupt or does not decode; on_bad_record="skip" masks corrupt ones out
    instead, but not where another process would not know of it.
    """

    order = functools.partial(training_indices, len(split), batch_size, seed)
    steps = range(first_step, sys.maxsize)
    skip = on_bad_record == "skip" and len(range(batch_size)[share]) == batch_size
    return batches(split, order, steps, batch_size, device_bytes, share, skip)


def evaluation_batches(
    split: Split, batch_size: int, *, device_bytes: int, share: slice = WHOLE
) -> Iterator[Batch]:
    """Batches with each image of the split exactly once, in order; UserError for a corrupt one."""

    def order(step: int) -> np.ndarray:
        return piece(np.arange(len(split)), batch_size, step)

    steps = range(steps_per_epoch(len(split), batch_size))
    return batches(split, order, steps, batch_size, device_bytes, share)


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
    split: Split,
    order: Order,
    steps: range,
    batch_size: int,
    device_bytes: int,
    share: slice,
    skip: bool = False,
) -> Iterator[Batch]:
    """The batches of the image numbers order(step) for each of the steps, padded to batch_size."""
    on_device, records = raw_bytes(split) <= device_bytes, Records(split, skip)

    def to_read(step: int) -> np.ndarray:
        return padded(order(step), batch_size)[share]

    images = (gathered if on_device else streamed)(split, records, to_read, steps)
    for step, image in zip(steps, images, strict=True):
        indices = order(step)
        mask = np.zeros(batch_size, np.float32)
        mask[: len(indices)] = records.usable(indices)
        labels = np.asarray(split.labels[padded(indices, batch_size)], np.int32)
        yield {"image": image, "label": labels, "mask": mask}


def raw_bytes(split: Split) -> float:
    """Bytes of the split's pixels; infinite where they are not stored raw."""
    if isinstance(split.images, JpegRecords):
        return float("inf")
    return len(split) * np.prod(split.images.shape[1:], dtype=float)


def gathered(split: Split, records: Records, order: Order, steps: range) -> Iterator[jax.Array]:
    """Images picked on the device, to which the split is copied on first use and stays."""
    if split not in _ON_DEVICE:
        everything = np.arange(len(split))
        pixels = records.pixels(rows_of(split, everything))
        records.usable(everything)
        _ON_DEVICE[split] = jax.device_put(pixels), records.bad
    images, bad = _ON_DEVICE[split]
    records.bad.update(bad)
    for step in steps:
        yield pick(images, order(step))


@jax.jit
def pick(images: jax.Array, indices: jax.Array) -> jax.Array:
    """images[indices], for indices that are known to be valid."""
    return jnp.take(images, indices, axis=0, mode="clip")


def streamed(split: Split, records: Records, order: Order, steps: range) -> Iterator[np.ndarray]:
    """Images read, decoded and batched ahead by tf.data."""
    tf = tensorflow()

    def rows(step: int) -> np.ndarray:
        return rows_of(split, order(int(step)))

    source = tf.data.Dataset.range(steps.start, steps.stop)
    source = source.map(lambda step: tf.numpy_function(rows, [step], tf.int64))
    read = jpeg_images if isinstance(split.images, JpegRecords) else raw_images
    dataset = read(source, split, records, len(order(steps.start))).prefetch(BATCHES_AHEAD)
    images = dataset.as_numpy_iterator()
    for step in steps:
        try:
            image = next(images)
        except tf.errors.OpError:
            name_broken(split, order(step))
            raise
        yield image


def raw_images(
    source: "tf.data.Dataset", split: Split, records: Records, batch_size: int
) -> "tf.data.Dataset":
    """Batches of rows to batches of images from an array or a memory-mapped file."""
    tf = tensorflow()
    shape = (batch_size, *split.images.shape[1:])

    def read(rows: tf.Tensor) -> tf.Tensor:
        images = tf.numpy_function(records.pixels, [rows], tf.uint8)
        return tf.ensure_shape(images, shape)

    return source.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def jpeg_images(
    source: "tf.data.Dataset", split: Split, records: Records, batch_size: int
) -> "tf.data.Dataset":
    """Batches of rows to batches of images decoded from JPEG records, several at a time."""
    tf = tensorflow()
    side = split.images.image_size

    def read(rows: tf.Tensor) -> tf.Tensor:
        files = tf.numpy_function(records.jpegs, [rows], tf.string)
        return tf.ensure_shape(files, [batch_size])

    def decode(file: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")
        return tf.ensure_shape(image, [side, side, 3])

    files = source.map(read).prefetch(BATCHES_AHEAD).unbatch()
    images = files.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
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
