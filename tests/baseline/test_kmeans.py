"""K-means features against hand-worked values and plain loops in float64."""

import numpy as np
import pytest

from alexnet_jax.baseline.kmeans import Dictionary, Form, encoder, learn, pooling_matrix, triangle
from alexnet_jax.baseline.patches import Whitening, normalise, random_patches
from alexnet_jax.data import Split
from alexnet_jax.data.embedded import enlarge


def random_images(count, side):
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return Split(pixels, np.zeros(count, np.int32))


def test_triangle_code_by_hand():
    patches, centres = np.zeros((1, 2), np.float32), np.array([[3, 4], [0, 1], [0, 0]], np.float32)
    # Distances 5, 1 and 0; their mean is 2.
    np.testing.assert_allclose(triangle(patches, centres), [[0, 1, 2]], atol=1e-6)


def test_an_odd_number_of_positions_gives_the_middle_to_the_first_quadrants():
    quadrants = pooling_matrix(3, 2).reshape(4, 3, 3)
    upper_left = [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    lower_right = [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    np.testing.assert_array_equal(quadrants[0], upper_left)
    np.testing.assert_array_equal(quadrants[3], lower_right)


@pytest.mark.parametrize(("positions", "pool"), [(27, 2), (9, 3), (7, 4), (5, 5), (4, 1)])
def test_every_patch_is_in_one_cell_and_every_cell_has_one(positions, pool):
    cells = pooling_matrix(positions, pool)
    np.testing.assert_array_equal(cells.sum(0), 1)
    assert cells.shape == (pool**2, positions**2) and cells.sum(1).min() > 0


def features_by_loops(image, dictionary, form):
    """The features of uint8 [S, S, 3], patch by patch: float64 [pool²·K]."""
    count = (len(image) - form.patch) // form.stride + 1
    pooled = np.zeros((form.pool, form.pool, form.centres))
    for row in range(count):
        for column in range(count):
            y, x = row * form.stride, column * form.stride
            patch = image[y : y + form.patch, x : x + form.patch].astype(np.float64).ravel()
            patch = (patch - patch.mean()) / np.sqrt(patch.var() + 10)
            white = (patch - dictionary.whitening.mean) @ dictionary.whitening.matrix
            distances = np.array([np.linalg.norm(white - centre) for centre in dictionary.centres])
            half = -(-count // form.pool)
            pooled[row // half, column // half] += np.maximum(0, distances.mean() - distances)
    return pooled.ravel()


@pytest.mark.parametrize("stride", [1, 2])
def test_features_equal_those_of_plain_loops(stride):
    rng, form = np.random.default_rng(1), Form(centres=5, patch=3, stride=stride, pool=2)
    whitening = Whitening(*(rng.normal(size=n).astype(np.float32) for n in (27, (27, 27))))
    dictionary = Dictionary(whitening, rng.normal(size=(5, 27)).astype(np.float32))
    images = random_images(3, 9).images
    expected = [features_by_loops(image, dictionary, form) for image in images]
    np.testing.assert_allclose(encoder(dictionary, form)(images), expected, rtol=1e-3, atol=1e-3)


def test_each_centre_is_the_mean_of_the_patches_nearest_to_it():
    split, form = random_images(20, 8), Form(centres=6, patch=3, stride=1, pool=2)
    (mean, matrix), centres = learn(split, form, 300, seed=0)
    patches = normalise(random_patches(split, 300, 3, seed=0).astype(np.float64))
    white = (patches - mean) @ matrix
    nearest = np.linalg.norm(white[:, None] - centres, axis=2).argmin(1)
    means = [white[nearest == k].mean(0) for k in range(6)]
    np.testing.assert_allclose(centres, means, atol=1e-3)


def test_the_dictionary_is_a_function_of_the_seed():
    split, form = random_images(20, 8), Form(centres=6, patch=3, stride=1, pool=2)
    first, again, other = (learn(split, form, 100, seed).centres for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_hardly_any_centre_is_spent_on_a_single_outlier():
    """One image in twenty is noise, whose patches are far from all others and from each other.

    A k-means that starts at random patches leaves ten centres of a hundred at one patch each.
    """
    rng, form = np.random.default_rng(0), Form(centres=100, patch=6, stride=1, pool=2)
    smooth = enlarge(rng.uniform(0, 255, (190, 3, 4, 4)), 16).transpose(0, 2, 3, 1)
    images = np.concatenate([smooth, rng.uniform(0, 255, (10, 16, 16, 3))]).astype(np.uint8)
    split = Split(images, np.zeros(200, np.int32))
    whitening, centres = learn(split, form, 4000, seed=0)
    patches = normalise(random_patches(split, 4000, 6, seed=0).astype(np.float64))
    white = (patches - whitening.mean) @ whitening.matrix
    nearest = np.linalg.norm(white[:, None] - centres, axis=2).argmin(1)
    assert (np.bincount(nearest, minlength=100) <= 1).sum() <= 5
