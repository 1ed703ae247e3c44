"""A store of synthetic images on the disk, so that a benchmark reads them as it reads real ones."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data.embedded import DIGITS_SIDE, enlarge
from alexnet_jax.prepare import store_writer
from alexnet_jax.prepare.originals.base import Original, OriginalImage

NAME = "synthetic_store"
PATTERNS = 16
NOISE = 20  # grey levels; a JPEG of 256 pixels then has about 25 kB, as those of ImageNet do


def write_synthetic(directory: Path, data: ConfigDict, encoding: str) -> None:
    """Writes a store of data.synthetic_images images with sides of data.image_size pixels.

    The images are smooth patterns, each with its own noise. Their labels count from 0 to
    data.synthetic_classes − 1, over and over. The validation split has a single image, because the
    benchmark does not validate.

    Args:
      directory: of the new store.
      data: config.data.
      encoding: raw or jpeg.
    """
    shape = (PATTERNS, 3, DIGITS_SIDE, DIGITS_SIDE)
    # From 64 to 192, so that no pixel with its noise leaves 0–255.
    blotches = np.random.default_rng(0).uniform(64, 192, shape)
    patterns = enlarge(blotches, data.image_size).transpose(0, 2, 3, 1).astype(np.uint8, order="C")
    sizes = {"train": data.synthetic_images, "val": 1}

    def read(split: str) -> Iterator[OriginalImage]:
        rng = np.random.default_rng(1)
        for i in range(sizes[split]):
            noise = rng.integers(-NOISE, NOISE + 1, patterns.shape[1:], dtype=np.int8)
            pixels = patterns[i % PATTERNS] + noise.view(np.uint8)  # wraps to the sum: 44 … 212
            yield OriginalImage(f"{split} image {i}", pixels, i % data.synthetic_classes)

    names = tuple(str(i) for i in range(data.synthetic_classes))
    form = store_writer.Form(data.image_size, resize=False, encoding=encoding, skip_bad=False)
    store_writer.begin(directory, {})
    store_writer.write_store(directory, NAME, Original(names, sizes, read), form)
