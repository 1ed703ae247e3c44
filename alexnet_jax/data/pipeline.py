"""From a split to batches of uint8 images: the order, and two ways to read.

The order of the training images is a function of (seed, epoch), so step k can be started from
without what came before. A raw split that fits stays on the device; others are read and decoded by
tf.data before they are asked for. Both give the same batches. A batch is a dict of `image` uint8
[B, S, S, 3], `label` int32 [B] and `mask` float32 [B]: 1 for an image, 0 for what pads the last
batch of a pass and for a corrupt image that is skipped. Where several processes train together each
reads only the `share` of the images that its devices need; labels and mask are of the whole batch.
"""

import functools
import math
import sys
import weakref
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.data.lazy_tensorflow import tensorflow
from alexnet_jax.data.records import Records, rows_of
from alexnet_jax.data.store import JpegRecords, Split
from alexnet_jax.data.threads import THREADS

Batch = dict[str, np.ndarray | jax.Array]
Order = Callable[[int], np.ndarray]  # the numbers of the images in a batch, int64
WHOLE = slice(None)
BATCHES_AHEAD = 4  # read and decoded before they are asked for
READERS = THREADS + 1  # they wait for each other now and then: Python runs one at a time

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
    names a record which is corrupt or does not decode; on_bad_record="skip" masks such ones out
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
        return np.arange(step * batch_size, min((step + 1) * batch_size, len(split)))

    steps = range(steps_per_epoch(len(split), batch_size))
    return batches(split, order, steps, batch_size, device_bytes, share)


def training_indices(num_images: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """The numbers of the images in training batch `step`: int64, batch_size of them or fewer."""
    epoch, step = divmod(step, steps_per_epoch(num_images, batch_size))
    return permutation(num_images, seed, epoch)[step * batch_size : (step + 1) * batch_size]


@functools.lru_cache(maxsize=2)  # the next one is begun before the last is done with
def permutation(num_images: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch: int64 [num_images]."""
    return np.random.default_rng((seed, epoch)).permutation(num_images)


def padded(indices: np.ndarray, batch_size: int) -> np.ndarray:
    """The indices, the first of them repeated at the end until there are batch_size."""
    return np.append(indices, np.full(batch_size - len(indices), indices[0]))


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
    records = Records(split, skip)

    def to_read(step: int) -> np.ndarray:
        return padded(order(step), batch_size)[share]

    read = gathered if is_held(split, device_bytes) else streamed
    images = read(split, records, to_read, steps)
    for step, image in zip(steps, images, strict=True):
        indices = order(step)
        mask = np.zeros(batch_size, np.float32)
        mask[: len(indices)] = records.usable(indices)
        labels = np.asarray(split.labels[padded(indices, batch_size)], np.int32)
        yield {"image": image, "label": labels, "mask": mask}


def is_held(split: Split, device_bytes: int) -> bool:
    """Whether the split is held on the device: its pixels are raw and fit."""
    if isinstance(split.images, JpegRecords):
        return False
    return len(split) * math.prod(split.images.shape[1:]) <= device_bytes


def gathered(split: Split, records: Records, order: Order, steps: range) -> Iterator[jax.Array]:
    """Images picked on the device, to which the split is copied on first use and stays."""
    if split not in _ON_DEVICE:
        everything, pixels = np.arange(len(split)), records.new(len(split))
        records.read(rows_of(split, everything), pixels)
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
    """Images read, checked, decoded and batched ahead by tf.data, several batches at a time.

    The reading ends with the iterator, or with the program: Python would else wait at its end for
    tf.data's threads, and they for Python.
    """
    tf = tensorflow()

    def read(step: np.int64) -> np.ndarray:
        rows = rows_of(split, order(int(step)))
        images = records.again(len(rows))
        records.read(rows, images)
        return images

    source = tf.data.Dataset.range(steps.start, steps.stop)
    dataset = source.map(
        lambda step: tf.numpy_function(read, [step], tf.uint8),
        num_parallel_calls=READERS,
        deterministic=True,
    )
    reading = [dataset.prefetch(BATCHES_AHEAD).as_numpy_iterator()]
    images = (next(reading[0]) for _ in steps)
    weakref.finalize(images, reading.clear)
    return images
