"""The mean image and the colour components of a training set, accumulated image by image.

Source: paper §2 (the mean activity over the training set is subtracted from each pixel) and §4.1
(principal components of the RGB values). All sums are integers and therefore exact: the result does
not depend on the order of the images or the number of threads.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ColourComponents:
    """Principal components of the RGB covariance over all pixels, in 0–255 units.

    stdevs: float32 [3], square roots of the eigenvalues, descending.
    components: float32 [3, 3], row i is the unit RGB vector of component i; its largest entry is
      positive.
    """

    stdevs: np.ndarray
    components: np.ndarray


@dataclass(frozen=True, eq=False)
class Sums:
    """Running sums over images of side S.

    images: number of images.
    pixels: int64 [S, S, 3], sum of the images.
    products: int64 [3, 3], sum of x xᵀ over all pixels x of all images.
    """

    images: int
    pixels: np.ndarray
    products: np.ndarray


def no_sums(image_size: int) -> Sums:
    """Returns the sums over no image; image_size is the side in pixels."""
    return Sums(0, np.zeros((image_size, image_size, 3), np.int64), np.zeros((3, 3), np.int64))


def colour_products(image: np.ndarray) -> np.ndarray:
    """Returns the exact sum of x xᵀ over the pixels x of a uint8 [H, W, 3] image: int64 [3, 3].

    Groups of four pixels form rows of 12 numbers, because a matrix product that is only 3 wide is
    slow. A sum over 256 such rows is at most 256 · 255² < 2**24, so float32 holds it exactly.
    """
    # Rounded up; the zeros behind the last pixel add nothing.
    rows = np.zeros((-(-image.size // (256 * 12)), 256, 12), np.float32)
    rows.reshape(-1)[: image.size] = image.reshape(-1)
    products = (rows.transpose(0, 2, 1) @ rows).sum(0, dtype=np.int64)
    # The four diagonal blocks: products of a pixel with itself, not with the others in its row.
    return products.reshape(4, 3, 4, 3).trace(axis1=0, axis2=2)


def add_image(sums: Sums, image: np.ndarray, products: np.ndarray) -> Sums:
    """Adds a uint8 [S, S, 3] image and its colour_products; modifies sums.pixels in place."""
    np.add(sums.pixels, image, out=sums.pixels)
    return Sums(sums.images + 1, sums.pixels, sums.products + products)


def summed(images: np.ndarray) -> Sums:
    """Returns the sums over a uint8 [N, S, S, 3] array."""
    sums = no_sums(images.shape[1])
    for image in images:
        sums = add_image(sums, image, colour_products(image))
    return sums


def mean_image(sums: Sums) -> np.ndarray:
    """Returns the pixel-wise mean of the images: float32 [S, S, 3], 0–255. Paper §2."""
    return (sums.pixels / sums.images).astype(np.float32)


def colour_components(sums: Sums) -> ColourComponents:
    """Returns the eigen-decomposition of the RGB covariance over all pixels. Paper §4.1.

    Deviations are taken from the mean colour, not from the mean image.
    """
    count = sums.images * sums.pixels.shape[0] * sums.pixels.shape[1]
    mean = sums.pixels.sum((0, 1)) / count
    covariance = sums.products / count - np.outer(mean, mean)
    eigenvalues, vectors = np.linalg.eigh(covariance)  # ascending, hence the reversals below
    components = vectors.T[::-1]
    largest = np.abs(components).argmax(axis=1, keepdims=True)
    # The sign of an eigenvector is arbitrary and differs between libraries. It does not matter to
    # the noise, which is symmetric, but the stored numbers should be the same everywhere.
    components = components * np.sign(np.take_along_axis(components, largest, axis=1))
    # For grey images, whose smaller eigenvalues are 0, rounding can leave −1e-13.
    stdevs = np.sqrt(np.maximum(eigenvalues[::-1], 0.0))
    return ColourComponents(stdevs.astype(np.float32), components.astype(np.float32))
