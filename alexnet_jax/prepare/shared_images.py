"""A search for images that are in the training set of a store and in another of its splits."""

from collections.abc import Iterator

import numpy as np

from alexnet_jax.data.records import read_stored
from alexnet_jax.data.store import Dataset, Split, image_names


def shared_images(training: Split, other: Split) -> dict[int, int]:
    """Returns the images of another split that the training set holds as well.

    Two images are the same if their stored forms are equal byte for byte.

    Args:
      training, other: complete splits of a store, with their checksums.

    Returns:
      {position in `other`: position in `training` of the first such image}.
    """
    found = {}
    # Equal checksums are only a hint: a million images have many pairs of them by chance.
    for row in np.flatnonzero(np.isin(other.checksums, training.checksums)).tolist():
        content = stored_bytes(other, row)
        for candidate in np.flatnonzero(training.checksums == other.checksums[row]).tolist():
            if stored_bytes(training, candidate) == content:
                found[row] = candidate
                break
    return found


def stored_bytes(split: Split, row: int) -> bytes:
    """Returns an image in its stored form: a JPEG file, or the bytes of its pixels."""
    return bytes(read_stored(split.images, row, np.empty(split.images.shape[1:], np.uint8)))


def warnings(dataset: Dataset) -> Iterator[str]:
    """Yields a line for the user for each split that shares images with the training set."""
    training = dataset.splits["train"]
    for name, split in dataset.splits.items():
        shared = {} if name == "train" else shared_images(training, split)
        if shared:
            position, in_training = next(iter(shared.items()))
            same = f"{image_names(split)[position]} = {image_names(training)[in_training]}"
            yield (
                f"warning: {len(shared):,} of {len(split):,} {name} images are in the training set "
                f"too, such as {same}; a net has seen them, so its {name} error will be too low"
            )
