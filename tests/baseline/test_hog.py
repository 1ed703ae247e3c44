"""Histograms of oriented gradients: the form of what scikit-image is asked for."""

import numpy as np
import pytest

from alexnet_jax.baseline import hog


@pytest.mark.parametrize("side", [16, 32, 72])
def test_an_image_of_any_side_has_as_many_features(side):
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    found = hog.encode(images)
    assert found.shape == (2, hog.FEATURES) and found.dtype == np.float32
    assert np.ptp(found) > 0.1


def test_pixels_beyond_eight_equal_cells_are_cut():
    images = np.random.default_rng(0).integers(0, 256, (1, 21, 21, 3), dtype=np.uint8)
    np.testing.assert_array_equal(hog.encode(images), hog.encode(images[:, :16, :16]))


def test_vertical_stripes_fill_one_orientation_alone():
    images = np.zeros((1, 32, 32, 3), np.uint8)
    images[:, :, ::4] = 255
    by_orientation = hog.encode(images).reshape(-1, hog.ORIENTATIONS).sum(0)
    assert np.count_nonzero(by_orientation) == 1
