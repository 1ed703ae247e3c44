"""Histograms of oriented gradients (Dalal and Triggs, CVPR 2005), as scikit-image computes them."""

import numpy as np
from skimage.feature import hog

CELLS = 8  # cells along each side of an image
BLOCK = 2  # cells along each side of the blocks that histograms are normalised over
ORIENTATIONS = 9
SMALLEST = 2 * CELLS  # pixels, side of the smallest image

FEATURES = (CELLS - BLOCK + 1) ** 2 * BLOCK**2 * ORIENTATIONS


def encode(images: np.ndarray) -> np.ndarray:
    """Returns the histograms of images: uint8 [N, S, S, 3], S ≥ 16 → float32 [N, 1764].

    The pixels that 8 equal cells along each side leave over are cut off. The gradient at a pixel is
    that of the channel in which it is largest.
    """
    cell = images.shape[1] // CELLS
    kept = images[:, : cell * CELLS, : cell * CELLS]
    return np.stack([_encode_one(image, cell) for image in kept])


def _encode_one(image: np.ndarray, cell: int) -> np.ndarray:
    return hog(
        image.astype(np.float32),
        orientations=ORIENTATIONS,
        pixels_per_cell=(cell, cell),
        cells_per_block=(BLOCK, BLOCK),
        block_norm="L2-Hys",
        channel_axis=-1,
    )
