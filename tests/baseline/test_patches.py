"""Patches: where they come from, contrast normalisation and whitening, against NumPy in float64."""

import numpy as np
import pytest

from alexnet_jax.baseline import images
from alexnet_jax.baseline.images import blocks, limit
from alexnet_jax.baseline.patches import normalise, random_patches, zca
from alexnet_jax.data import Split
from alexnet_jax.errors import UserError


def numbered(count, side=9):
    """A split whose pixels say where they stand: (16 · image + row, column, channel)."""
    pixels = np.empty((count, side, side, 3), np.uint8)
    pixels[..., 0] = 16 * np.arange(count)[:, None, None] + np.arange(side)[:, None]
    pixels[..., 1] = np.arange(side)
    pixels[..., 2] = 200
    return Split(pixels, np.arange(count, dtype=np.int32))


def test_a_random_patch_is_a_square_of_one_image_in_row_column_channel_order():
    for patch in random_patches(numbered(5), 40, side=4, seed=1).reshape(40, 4, 4, 3):
        image, row = divmod(int(patch[0, 0, 0]), 16)
        column = patch[0, 0, 1]
        expected = numbered(5).images[image, row : row + 4, column : column + 4]
        np.testing.assert_array_equal(patch, expected)


def test_images_give_equally_many_patches_at_all_places(monkeypatch):
    monkeypatch.setattr(images, "BLOCK", 2)
    found = random_patches(numbered(5), 1000, side=8, seed=0).reshape(1000, 8, 8, 3)
    image, row = np.divmod(found[:, 0, 0, 0], 16)
    assert np.bincount(image).tolist() == [200] * 5
    places = np.bincount(2 * row + found[:, 0, 0, 1])
    assert len(places) == 4 and places.min() > 200  # 250 expected at each


def test_fewer_patches_than_images_come_from_random_images():
    found = random_patches(numbered(12), 4, side=9, seed=0)
    owners = set((found[:, 0] // 16).tolist())
    assert len(owners) == 4 and owners != {0, 1, 2, 3}


def test_normalise_removes_brightness_and_contrast():
    rng = np.random.default_rng(0)
    patches = rng.uniform(0, 255, (7, 12))
    expected = [(x - np.mean(x)) / np.sqrt(np.var(x) + 10) for x in patches]
    np.testing.assert_allclose(normalise(patches.astype(np.float32)), expected, atol=1e-5)
    flat = normalise(np.full((1, 12), 77, np.float32))
    np.testing.assert_array_equal(flat, np.zeros((1, 12)))


def test_whitened_patches_have_the_identity_as_covariance():
    rng = np.random.default_rng(0)
    patches = (rng.normal(size=(5000, 6)) @ rng.normal(size=(6, 6)) * 100 + 50).astype(np.float32)
    mean, matrix = zca(patches)
    white = (patches.astype(np.float64) - mean) @ matrix
    np.testing.assert_allclose(white.T @ white / 5000, np.eye(6), atol=1e-3)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)


def test_whitening_divides_by_the_root_of_variance_plus_a_tenth():
    patches = np.array([[1, 0], [-1, 0], [0, 0.2], [0, -0.2]], np.float32) + 3
    mean, matrix = zca(patches)
    np.testing.assert_allclose(mean, [3, 3], rtol=1e-6)
    expected = np.diag([1 / np.sqrt(0.5 + 0.1), 1 / np.sqrt(0.02 + 0.1)])
    np.testing.assert_allclose(matrix, expected, atol=1e-6)


def test_blocks_hold_every_image_once_and_in_order(monkeypatch):
    monkeypatch.setattr(images, "BLOCK", 3)
    split = limit(numbered(11), 7, seed=0)
    found = list(blocks(split))
    assert [block for block, _ in found] == [slice(0, 3), slice(3, 6), slice(6, 7)]
    joined = np.concatenate([pixels for _, pixels in found])
    np.testing.assert_array_equal(joined, numbered(11).images[split.labels])


def test_a_limited_split_has_different_images_and_their_labels():
    split = limit(limit(numbered(12), 8, seed=0), 5, seed=3)
    assert len(set(split.labels.tolist())) == 5
    assert limit(split, 5, seed=0) is split


def test_a_corrupt_image_is_refused():
    split = numbered(3)
    broken = Split(split.images, split.labels, checksums=np.zeros(3, np.uint32))
    with pytest.raises(UserError, match="image 0 of memory cannot be used"):
        list(blocks(broken))
