"""A split's images as JPEG files, and how fast they can be decoded."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from alexnet_jax.benchmark.rates import rate
from alexnet_jax.data.images import encode_jpeg
from alexnet_jax.data.lazy_tensorflow import tensorflow
from alexnet_jax.data.records import Records, rows_of
from alexnet_jax.data.store import JpegRecords, Split

MOST = 2048  # files


def jpegs(split: Split) -> list[bytes]:
    """The first images of a split, at most 2,048, as JPEG files; raw ones are encoded."""
    rows = rows_of(split, np.arange(min(len(split), MOST)))
    if isinstance(split.images, JpegRecords):
        return split.images.read(rows)
    records = Records(split, skip=False)
    images = records.new(len(rows))
    records.read(rows, images)
    return [encode_jpeg(image) for image in images]


def write_jpegs(folder: Path, files: list[bytes]) -> list[Path]:
    """Writes each as a file of its own into a new folder."""
    folder.mkdir()
    paths = [folder / f"{i}.jpg" for i in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    return paths


def decoder_rate(files: list[bytes], threads: int) -> Callable[[float], float]:
    """A function that measures images a second of decoding alone, from memory on so many threads.

    Decoded by TensorFlow to the loader's own pixels, and thrown away.
    """
    tf = tensorflow()

    def decoded(file: "tf.Tensor") -> "tf.Tensor":
        image = tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")
        return image[0, 0, 0]

    endless = tf.data.Dataset.from_tensor_slices(files).repeat()
    pixels = endless.map(decoded, num_parallel_calls=threads, deterministic=False)
    hundreds = iter(pixels.batch(100))
    next(hundreds)
    return lambda seconds: rate(lambda: next(hundreds), 100, seconds)
