"""The images of a split as JPEG files, and the rate of decoding them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from alexnet_jax.benchmark.rates import rate
from alexnet_jax.data.images import encode_jpeg
from alexnet_jax.data.lazy_tensorflow import tensorflow
from alexnet_jax.data.records import read_images, rows_of
from alexnet_jax.data.store import JpegRecords, Split

MAX_FILES = 2048


def jpegs(split: Split) -> list[bytes]:
    """Returns the first images of a split, at most 2,048, as JPEG files; raw ones are encoded.

    Raises UserError for a raw image that is corrupt.
    """
    first = np.arange(min(len(split), MAX_FILES))
    if isinstance(split.images, JpegRecords):
        return split.images.read(rows_of(split, first))
    return [encode_jpeg(image) for image in read_images(split, first)]


def write_jpegs(folder: Path, files: list[bytes]) -> list[Path]:
    """Writes each JPEG to a file in a new folder; returns the paths."""
    folder.mkdir()
    paths = [folder / f"{i}.jpg" for i in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    return paths


def decoder_rate(files: list[bytes], threads: int) -> Callable[[float], float]:
    """Returns a function that measures TensorFlow's JPEG decoder in images per second.

    It decodes files in memory, on this many threads, to the same pixels as the loader's, and
    discards them. Its argument is the shortest duration in seconds.
    """
    tf = tensorflow()

    def decoded(file: "tf.Tensor") -> "tf.Tensor":
        image = tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")
        return image[0, 0, 0]  # the pixels need not leave TensorFlow

    endless = tf.data.Dataset.from_tensor_slices(files).repeat()
    pixels = endless.map(decoded, num_parallel_calls=threads, deterministic=False)
    hundreds = iter(pixels.batch(100))
    next(hundreds)
    return lambda seconds: rate(lambda: next(hundreds), 100, seconds)
