"""How fast `prepare` is beside tf.image's own decoding and resizing of the same files.

Command:   python results/speed/prepare_rate.py DIR > results/speed/prepare_rate.md

DIR is a folder data set, train/CLASS/*.jpg and val/CLASS/*.jpg. A store of 256 pixels is written
three times in each encoding, all of it counted: reading, decoding, resizing, encoding, checksums,
statistics. In turn with them tf.data decodes the same files and resizes them with antialiasing,
shorter side 256, and keeps nothing.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from alexnet_jax import environment
from alexnet_jax.data.lazy_tensorflow import tensorflow
from alexnet_jax.data.threads import THREADS
from alexnet_jax.prepare import store_writer
from alexnet_jax.prepare.originals import folder

REPEATS, SIDE = 3, 256


def with_tensorflow(paths: list[str]) -> int:
    """Decodes and resizes all the files on all cores; returns how many."""
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
    """Writes the store; returns how many images it holds."""
    original = folder.open_folder(source, skip_bad=False)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name, "store")
        form = store_writer.Form(SIDE, resize=True, encoding=encoding, skip_bad=False)
        store_writer.begin(directory, {})
        store_writer.write_store(directory, "folder", original, form)
        shutil.rmtree(directory)
    return sum(original.sizes.values())


def rate(work: Callable[[], int]) -> float:
    """Images a second."""
    begun = time.perf_counter()
    return work() / (time.perf_counter() - begun)


def main() -> None:
    """Measures in turn and prints a table."""
    environment.keep_freed_memory()
    source = Path(sys.argv[1])
    paths = sorted(str(x) for x in source.rglob("*") if x.is_file())
    measures = {
        "tf.image: decode and resize": lambda: with_tensorflow(paths),
        "prepare, JPEG": lambda: with_prepare(source, "jpeg"),
        "prepare, raw": lambda: with_prepare(source, "raw"),
    }
    with_tensorflow(paths)  # the files are in memory from now on
    rates = {name: [] for name in measures}
    for _ in range(REPEATS):
        for name, work in measures.items():
            rates[name].append(rate(work))
    (theirs, *_) = rates.values()
    print(f"{len(paths)} files\n\n| | images/s | lowest … highest | ÷ tf.image, same repeat |")
    print("|---|--:|--:|--:|")
    for name, x in rates.items():
        ratio = median(a / b for a, b in zip(x, theirs, strict=True))
        print(f"| {name} | {median(x):.0f} | {min(x):.0f} … {max(x):.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
