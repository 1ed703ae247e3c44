"""SIFT and colour descriptors against plain loops in float64 and hand-worked images."""

import numpy as np
import pytest

from alexnet_jax.baseline import descriptors
from alexnet_jax.baseline.descriptors import BIN_SIDES, STEP, bin_weights, colour, places, sift

SIDE = 26


def random_image():
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3))
    return image.astype(np.float32)


def corners():
    """Bin side and upper left pixel of every patch, in the order of the descriptors."""
    for side in BIN_SIDES:
        along = range(0, SIDE - 4 * side + 1, STEP)
        yield from ((side, y, x) for y in along for x in along)


def weight(pixel, first, side, which):
    """The weight of a pixel in one of the four bins of a patch that begins at `first`."""
    return max(0, 1 - abs(pixel + 0.5 - (first + (which + 0.5) * side)) / side)


def binned_by_loops(maps, side, y, x):
    """The 4×4 weighted sums of float64 [S, S, C] maps in one patch."""
    found = np.zeros((4, 4, maps.shape[2]))
    for row in range(SIDE):
        for column in range(SIDE):
            for i in range(4):
                for j in range(4):
                    both = weight(row, y, side, i) * weight(column, x, side, j)
                    found[i, j] += both * maps[row, column]
    return found


def test_places_are_the_centres_of_the_patches():
    expected = [
        ((y + 2 * side) / SIDE - 0.5, (x + 2 * side) / SIDE - 0.5) for side, y, x in corners()
    ]
    np.testing.assert_allclose(places(SIDE), expected, atol=1e-6)


@pytest.mark.parametrize("which", [0, 20, -1])
def test_sift_equals_plain_loops(which):
    grey = random_image().astype(np.float64) @ [0.299, 0.587, 0.114]
    dy, dx = np.gradient(grey)
    maps = np.zeros((SIDE, SIDE, 8))
    for row, column in np.ndindex(SIDE, SIDE):
        angle = np.arctan2(dy[row, column], dx[row, column]) % (2 * np.pi) / (np.pi / 4)
        low, share = int(angle) % 8, angle % 1
        length = np.hypot(dy[row, column], dx[row, column])
        maps[row, column, low] += length * (1 - share)
        maps[row, column, (low + 1) % 8] += length * share
    expected = binned_by_loops(maps, *list(corners())[which]).ravel()
    expected = np.minimum(expected / np.linalg.norm(expected), 0.2)
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(sift(random_image())[which], expected, atol=1e-3)


@pytest.mark.parametrize("which", [3, -1])
def test_colour_equals_plain_loops(which):
    image = random_image().astype(np.float64) / 255
    patch = list(corners())[which]
    total = binned_by_loops(np.ones((SIDE, SIDE, 1)), *patch)
    mean, square = (binned_by_loops(x, *patch) / total for x in (image, image**2))
    expected = np.concatenate([mean, np.sqrt(square - mean**2)], axis=-1).ravel()
    np.testing.assert_allclose(colour(random_image())[which], expected, atol=1e-3)


def test_sift_does_not_change_with_brightness_and_contrast():
    image = random_image()
    np.testing.assert_allclose(sift(image), sift(0.5 * image + 60), atol=1e-3)


def test_an_image_of_one_colour_has_no_gradients_and_no_spread():
    image = np.full((SIDE, SIDE, 3), 51, np.float32)
    np.testing.assert_array_equal(sift(image), 0)
    found = colour(image).reshape(-1, 16, 6)
    np.testing.assert_allclose(found[..., :3], 0.2, atol=1e-3)
    np.testing.assert_allclose(found[..., 3:], 0, atol=1e-3)


def test_the_smallest_image_has_one_patch_of_the_largest_size():
    assert descriptors.positions(descriptors.SMALLEST, max(BIN_SIDES)) == 1
    assert bin_weights(descriptors.SMALLEST, max(BIN_SIDES)).shape == (4, descriptors.SMALLEST)
