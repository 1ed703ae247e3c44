"""Fisher vectors against the gradients of scikit-learn's own likelihood."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from alexnet_jax.baseline.fisher import Model, encoder, fisher_vector, improve, learn, num_features
from alexnet_jax.data import Split


@pytest.fixture
def mixture():
    """A mixture of two Gaussians in three dimensions."""
    found = GaussianMixture(2, covariance_type="diag")
    found.weights_ = np.array([0.3, 0.7])
    found.means_ = np.array([[0.0, 1, 2], [1, -1, 0]])
    set_deviations(found, np.array([[1.0, 0.5, 2], [0.7, 1.5, 1]]))
    return found


def set_deviations(mixture, deviations):
    mixture.covariances_ = deviations**2
    mixture.precisions_cholesky_ = 1 / deviations


def model_of(mixture):
    arrays = mixture.weights_, mixture.means_, mixture.covariances_
    empty = np.zeros(0, np.float32)
    return Model(empty, empty, *(x.astype(np.float32) for x in arrays))


def test_fisher_vector_is_the_gradient_of_the_likelihood(mixture):
    x = np.random.default_rng(0).normal(size=(40, 3))
    means, deviations = mixture.means_.copy(), np.sqrt(mixture.covariances_)
    expected, step = np.zeros((2, 2, 3)), 1e-6
    for place in np.ndindex(2, 3):
        change = np.zeros((2, 3))
        change[place] = step
        for sign in (1, -1):
            mixture.means_ = means + sign * change
            expected[0][place] += sign * mixture.score(x) / (2 * step)
            mixture.means_ = means
            set_deviations(mixture, deviations + sign * change)
            expected[1][place] += sign * mixture.score(x) / (2 * step)
            set_deviations(mixture, deviations)
    # Divided by the root of the Fisher information: √w ÷ σ for a mean, √(2 w) ÷ σ for a deviation.
    root = np.sqrt(mixture.weights_)[:, None]
    expected *= np.stack([deviations / root, deviations / root / np.sqrt(2)])
    found = fisher_vector(x.astype(np.float32), model_of(mixture))
    np.testing.assert_allclose(found, expected.ravel(), atol=1e-4)


def test_fisher_vector_of_the_mixture_s_own_samples_is_near_0(mixture):
    samples, _ = mixture.sample(100_000)
    found = fisher_vector(samples.astype(np.float32), model_of(mixture))
    assert np.abs(found).max() < 0.03  # each entry has a deviation of 1 ÷ √100,000


def test_improve_takes_signed_roots_and_makes_the_length_1():
    np.testing.assert_allclose(improve(np.array([9.0, -16, 0])), [0.6, -0.8, 0], atol=1e-6)
    np.testing.assert_array_equal(improve(np.zeros(3, np.float32)), np.zeros(3))


@pytest.mark.slow
def test_features_of_an_image_are_two_vectors_of_length_1():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 24, 24, 3), dtype=np.uint8)
    models = learn(Split(pixels, np.zeros(4, np.int32)), 2, seed=0)
    features = encoder(models)(pixels)
    assert features.shape == (4, num_features(2)) and features.dtype == np.float32
    lengths = np.linalg.norm(features.reshape(4, 2, -1), axis=2)
    np.testing.assert_allclose(lengths, 1, atol=1e-3)
    np.testing.assert_allclose(encoder(models)(pixels[2:3]), features[2:3], atol=1e-5)
