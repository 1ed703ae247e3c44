"""Data sets that are made in memory: nothing to download, nothing to prepare."""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np

from alexnet_jax.data import image_statistics
from alexnet_jax.data.store import Dataset, Split

DIGITS_IMAGES = 1797  # known without importing scikit-learn
DIGITS_TEST = round(0.2 * DIGITS_IMAGES)
DIGITS_SIDE = 8  # pixels
DIGITS_NAMES = tuple("0123456789")


def digits(image_size: int) -> Dataset:
    """Returns scikit-learn's handwritten digits, enlarged to image_size pixels, grey in RGB.

    Values 0–16 become 0–255. A fixed fifth of the images is the test split, the rest is 'train'.
    """
    pixels, targets = read_digits()
    order = np.random.default_rng(0).permutation(DIGITS_IMAGES)
    grey = enlarge(pixels[order] * (255 / 16), image_size)
    # Many values are exact halves, which matrix products of other machines may miss by a rounding
    # error. The offset rounds all of them up.
    grey = np.rint(grey + 1e-6)
    images = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=3)
    labels = targets[order].astype(np.int32)
    splits = {
        "train": Split(images[DIGITS_TEST:], labels[DIGITS_TEST:]),
        "test": Split(images[:DIGITS_TEST], labels[:DIGITS_TEST]),
    }
    return in_memory("digits", DIGITS_NAMES, splits, source="scikit-learn")


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Reads scikit-learn's digits: float64 [1797, 8, 8] of 0–16, and labels float64 [1797]."""
    # sklearn.datasets.load_digits returns the same, after a second of imports.
    package = Path(importlib.util.find_spec("sklearn").origin).parent
    table = np.loadtxt(package / "datasets/data/digits.csv.gz", delimiter=",")
    return table[:, :-1].reshape(-1, DIGITS_SIDE, DIGITS_SIDE), table[:, -1]


def digits_sizes() -> dict[str, int]:
    """Returns the number of digits in each split, before a validation split is held out."""
    return {"train": DIGITS_IMAGES - DIGITS_TEST, "test": DIGITS_TEST}


def synthetic(num_images: int, num_classes: int, image_size: int) -> Dataset:
    """Returns random images that can be learned: a blotchy pattern for each class, plus noise.

    Each of the splits 'train', 'val' and 'test' has num_images images. Every call returns the same
    images.
    """
    rng = np.random.default_rng(0)
    # 64 to 192, so that noise of ±64 stays within 0–255.
    blotches = rng.uniform(64, 192, (num_classes, 3, DIGITS_SIDE, DIGITS_SIDE))
    patterns = enlarge(blotches, image_size).transpose(0, 2, 3, 1).astype(np.uint8, order="C")
    splits = {name: noisy(patterns, num_images, rng) for name in ("train", "val", "test")}
    return in_memory("synthetic", synthetic_names(num_classes), splits, source="random numbers")


def synthetic_names(num_classes: int) -> tuple[str, ...]:
    """Returns the class names of the synthetic data set: its labels."""
    return tuple(str(i) for i in range(num_classes))


def noisy(patterns: np.ndarray, num_images: int, rng: np.random.Generator) -> Split:
    """Returns num_images copies of uint8 [classes, S, S, 3] patterns with noise within ±64."""
    labels = rng.integers(len(patterns), size=num_images).astype(np.int32)
    noise = rng.integers(-64, 64, (num_images, *patterns.shape[1:]), dtype=np.int8)
    images = patterns[labels]
    # In place and in uint8: there −n is 256 − n, and the addition wraps to the right sum, because
    # no sum of 64–191 and ±64 leaves 0–255.
    np.add(images, noise.view(np.uint8), out=images)
    return Split(images, labels)


def enlarge(images: np.ndarray, size: int) -> np.ndarray:
    """Enlarges float [..., n, n] bilinearly to float64 [..., size, size].

    Pixel centres are at half-integers; beyond the outermost centres the edge pixel is repeated.
    """
    matrix = interpolation(images.shape[-1], size)
    return matrix @ images @ matrix.T


def interpolation(old: int, new: int) -> np.ndarray:
    """Returns the float64 [new, old] matrix of linear interpolation along one axis."""
    position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    # Weights of 1 at the position itself, falling to 0 one pixel away.
    return np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(old)))


def in_memory(
    name: str, class_names: tuple[str, ...], splits: dict[str, Split], source: str
) -> Dataset:
    """Returns the data set of these splits, with the statistics of 'train'."""
    sums = image_statistics.summed(splits["train"].images)
    digest = hashlib.sha256()
    for split_name, split in splits.items():
        digest.update(split_name.encode())
        digest.update(split.images)
        digest.update(split.labels)
    return Dataset(
        name=name,
        image_size=splits["train"].images.shape[1],
        class_names=class_names,
        splits=splits,
        mean_image=image_statistics.mean_image(sums),
        colour=image_statistics.colour_components(sums),
        checksum=digest.hexdigest(),
        source=source,
    )
