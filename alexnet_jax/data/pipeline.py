"""Batches of uint8 images from a split: their order, and two ways to read them.

The order of the training images is a function of (seed, epoch), so training can start at any step
without reading the batches before it. A raw split that is small enough stays on the device. Any
other split is read and decoded ahead of time by tf.data. Both ways give the same batches.

A batch is a dict of `image` uint8 [B, S, S, 3], `label` int32 [B] and `mask` float32 [B]. The mask
is 1 for an image, and 0 for padding of the last batch of a pass and for a corrupt image that is
skipped. When several processes train together, each reads only the images that its devices need,
which are a slice of the batch, its `share`. Labels and mask are those of the whole batch.
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
from alexnet_jax.errors import UserError

Batch = dict[str, np.ndarray | jax.Array]
Order = Callable[[int], np.ndarray]  # from a step to the indices of its images, int64
ALL = slice(None)
BATCHES_AHEAD = 4  # batches that are read and decoded before they are requested
# One reader more than there are cores, because Python's lock makes them wait for each other.
READERS = THREADS + 1

# For each held split its images on the device and its bad rows. Weak: an entry goes with its split.
_ON_DEVICE: weakref.WeakKeyDictionary[Split, tuple[jax.Array, dict[int, str]]]
_ON_DEVICE = weakref.WeakKeyDictionary()


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Returns the number of batches in a pass over num_images; the last one may be padded."""
    return -(-num_images // batch_size)


def training_batches(
    split: Split,
    batch_size: int,
    *,
    seed: int,
    first_step: int,
    device_bytes: int,
    share: slice = ALL,
    on_bad_record: str = "fail",
) -> Iterator[Batch]:
    """Yields batches without end, in a new order every epoch, starting with batch first_step.

    From first_step on they equal the batches of an uninterrupted run. Every batch has at least one
    good image, because the training step divides by the number of good images.

    Args:
      split: of the data set.
      batch_size: images, over all processes.
      seed: decides the order, with the epoch.
      first_step: number of the first batch.
      device_bytes: a split with at most this many bytes of raw pixels is held on the device.
      share: the rows of each batch whose images this process reads.
      on_bad_record: "fail", or "skip" to mask a corrupt image out of its batch. A process that
        reads only a share always fails.

    Raises:
      UserError: an image is corrupt and not skipped, or an epoch has no good image.
    """
    order = functools.partial(training_indices, len(split), batch_size, seed)
    steps = range(first_step, sys.maxsize)  # endless
    # A process that reads a share cannot mask an image in the batches of the other processes.
    skip = on_bad_record == "skip" and len(range(batch_size)[share]) == batch_size
    return batches(split, order, steps, batch_size, device_bytes, share, skip)


def evaluation_batches(
    split: Split, batch_size: int, *, device_bytes: int, share: slice = ALL
) -> Iterator[Batch]:
    """Yields each image of the split exactly once, in order; raises UserError for a corrupt one.

    The arguments are those of `training_batches`.
    """

    def order(step: int) -> np.ndarray:
        return np.arange(step * batch_size, min((step + 1) * batch_size, len(split)))

    steps = range(steps_per_epoch(len(split), batch_size))
    return batches(split, order, steps, batch_size, device_bytes, share)


def training_indices(num_images: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Returns the indices of the images in training batch `step`: int64, batch_size or fewer."""
    epoch, step = divmod(step, steps_per_epoch(num_images, batch_size))
    return permutation(num_images, seed, epoch)[step * batch_size : (step + 1) * batch_size]


@functools.lru_cache(maxsize=2)  # reading ahead begins an epoch before the last one is finished
def permutation(num_images: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of an epoch: int64 [num_images]."""
    # Drawn by NumPy on the host: the order must not depend on devices or on jax's generator.
    return np.random.default_rng((seed, epoch)).permutation(num_images)


def padded(indices: np.ndarray, batch_size: int) -> np.ndarray:
    """Appends copies of the first index until there are batch_size indices."""
    # A valid index, so that padding is read like any image. The mask keeps it out of all results.
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
    """Yields the batch of images order(step), padded to batch_size, for each of the steps.

    A batch without a good image is replaced by the nearest one before it in the epoch.
    """
    records, epoch_steps = Records(split, skip), steps_per_epoch(len(split), batch_size)
    read = functools.partial(read_batches, split, records, order, batch_size, device_bytes, share)
    for step, batch in zip(steps, read(steps), strict=True):
        yield batch if batch["mask"].any() else replacement(read, step, epoch_steps, records.name)


def replacement(
    read: Callable[[range], Iterator[Batch]], step: int, epoch_steps: int, name: str
) -> Batch:
    """Returns the nearest batch before this step, in the same epoch, that has a good image.

    The search goes on from the epoch's end once it has passed the epoch's start. The result is a
    function of the step alone, so a resumed run trains on the same batch. Raises UserError if the
    epoch has no good image.
    """
    epoch, place = divmod(step, epoch_steps)
    for back in range(1, epoch_steps):
        other = epoch * epoch_steps + (place - back) % epoch_steps
        (batch,) = read(range(other, other + 1))
        if batch["mask"].any():
            return batch
    raise UserError(f"not one image of {name} can be used: prepare the store again")


def read_batches(
    split: Split,
    records: Records,
    order: Order,
    batch_size: int,
    device_bytes: int,
    share: slice,
    steps: range,
) -> Iterator[Batch]:
    """Yields the batches of these steps; a batch may be without a good image."""

    def to_read(step: int) -> np.ndarray:
        return padded(order(step), batch_size)[share]

    read = gathered if is_held(split, device_bytes) else streamed
    images = read(split, records, to_read, steps)
    for step, image in zip(steps, images, strict=True):
        indices = order(step)
        mask = np.zeros(batch_size, np.float32)
        mask[: len(indices)] = records.usable(indices)  # the rows behind them are padding
        labels = np.asarray(split.labels[padded(indices, batch_size)], np.int32)
        yield {"image": image, "label": labels, "mask": mask}


def is_held(split: Split, device_bytes: int) -> bool:
    """True if the split is held on the device: its pixels are raw and small enough."""
    if isinstance(split.images, JpegRecords):
        return False
    return len(split) * math.prod(split.images.shape[1:]) <= device_bytes


def gathered(split: Split, records: Records, order: Order, steps: range) -> Iterator[jax.Array]:
    """Yields images picked on the device, to which the split is copied once, on first use."""
    if split not in _ON_DEVICE:
        everything, pixels = np.arange(len(split)), records.new(len(split))
        records.read(rows_of(split, everything), pixels)
        records.usable(everything)  # raises for a bad image at once, not at the batch that has it
        # Kept by split, not by iterator: each validation would copy the split to the device again.
        _ON_DEVICE[split] = jax.device_put(pixels), records.bad
    images, bad = _ON_DEVICE[split]
    records.bad.update(bad)
    for step in steps:
        yield pick(images, order(step))


@jax.jit
def pick(images: jax.Array, indices: jax.Array) -> jax.Array:
    """Returns images[indices], for indices that are known to be valid."""
    # "clip", because the default compiles a test of the bounds and a fill.
    return jnp.take(images, indices, axis=0, mode="clip")


def streamed(split: Split, records: Records, order: Order, steps: range) -> Iterator[np.ndarray]:
    """Yields images that tf.data reads, verifies and decodes, several batches ahead.

    tf.data's threads stop when the iterator is collected or the program ends; otherwise Python and
    those threads would wait for each other at exit.
    """
    tf = tensorflow()

    def read(step: np.int64) -> np.ndarray:
        rows = rows_of(split, order(int(step)))
        images = records.recycled(len(rows))
        records.read(rows, images)
        return images

    source = tf.data.Dataset.range(steps.start, steps.stop)
    dataset = source.map(
        lambda step: tf.numpy_function(read, [step], tf.uint8),
        num_parallel_calls=READERS,
        # In order, even if a later batch is read first: the batch is a function of the step.
        deterministic=True,
    )
    reading = [dataset.prefetch(BATCHES_AHEAD).as_numpy_iterator()]
    images = (next(reading[0]) for _ in steps)
    # The iterator is in a list, so that clearing the list is enough to collect it.
    weakref.finalize(images, reading.clear)
    return images
