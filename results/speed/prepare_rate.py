"""Measures `prepare` beside tf.image's own decoding and resizing of the same files.

Command:   PYTHONPATH=. python results/speed/prepare_rate.py DIR > results/speed/prepare_rate.md

DIR is a folder data set, train/CLASS/*.jpg and val/CLASS/*.jpg. A store of 256 pixels is written
three times in each encoding, and all of it counts: reading, decoding, resizing, encoding,
checksums, statistics. In each repeat tf.data also decodes the same files and resizes them with
antialiasing to a shorter side of 256 pixels, and discards them.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from alexnet_jax import environment
from alexnet_jax.benchmark.rates import interleave, ratios
from alexnet_jax.cli.tables import markdown_table
from alexnet_jax.data.lazy_tensorflow import tensorflow
from alexnet_jax.data.threads import THREADS
from alexnet_jax.prepare import store_writer
from alexnet_jax.prepare.originals import folder

REPEATS, SIDE = 3, 256


def with_tensorflow(paths: list[str]) -> int:
    """Decodes and resizes all the files on all cores; returns their number."""
    tf = tensorflow()

    def resized(path: "tf.Tensor") -> "tf.Tensor":
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        height, width = tf.shape(image)[0], tf.shape(image)[1]
        scale = SIDE / tf.minimum(height, width)
        size = [
            tf.cast(tf.math.rint(tf.cast(x, tf.float64) * scale), tf.int32) for x in (height, width)
        ]
        image = tf.image.resize(image, size, antialias=True)
        return tf.cast(tf.image.resize_with_crop_or_pad(image, SIDE, SIDE), tf.uint8)

    images = tf.data.Dataset.from_tensor_slices(paths).map(resized, THREADS)
    return sum(1 for _ in images.prefetch(8).as_numpy_iterator())


def with_prepare(source: Path, encoding: str) -> int:
    """Writes the store; returns the number of its images."""
    original = folder.open_folder(source, skip_bad=False)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name, "store")
        form = store_writer.Form(SIDE, resize=True, encoding=encoding, skip_bad=False)
        store_writer.begin(directory, {})
        store_writer.write_store(directory, "folder", original, form)
        shutil.rmtree(directory)
    return sum(original.sizes.values())


def rate(work: Callable[[], int]) -> float:
    """Returns the images per second of one call."""
    start = time.perf_counter()
    return work() / (time.perf_counter() - start)


def main() -> None:
    """Measures all three in each repeat and prints a table."""
    environment.keep_freed_memory()
    source = Path(sys.argv[1])
    paths = sorted(str(x) for x in source.rglob("*") if x.is_file())
    with_tensorflow(paths)  # reads the files into the system's memory
    tf_image = "tf.image: decode and resize"
    rates = interleave(
        {
            tf_image: lambda: rate(lambda: with_tensorflow(paths)),
            "prepare, JPEG": lambda: rate(lambda: with_prepare(source, "jpeg")),
            "prepare, raw": lambda: rate(lambda: with_prepare(source, "raw")),
        },
        REPEATS,
    )
    rows = [("", "images/s", "lowest … highest", "÷ tf.image, same repeat")]
    for name, x in rates.items():
        ratio = median(ratios(x, rates[tf_image]))
        rows.append((name, f"{median(x):.0f}", f"{min(x):.0f} … {max(x):.0f}", f"{ratio:.2f}"))
    print(f"{len(paths)} files\n\n{markdown_table(rows)}")


if __name__ == "__main__":
    main()
