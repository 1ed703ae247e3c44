"""The linear SVM against scikit-learn's, and the choice of its cost."""

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from alexnet_jax.baseline import selection
from alexnet_jax.baseline.classifier import fit, gram, objective
from alexnet_jax.baseline.features import COLUMNS, moments, standardise
from alexnet_jax.baseline.selection import errors, has_turned, trials


def clusters(count, classes=4, width=6, noise=1.5):
    """Overlapping clusters: float32 [count, width + 1] features, the last 1, and labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=count)
    centres = rng.normal(size=(classes, width))
    features = centres[labels] + noise * rng.normal(size=(count, width))
    return np.hstack([features, np.ones((count, 1))]).astype(np.float32), labels


def fitted(features, labels, cost):
    start = np.zeros((features.shape[1], labels.max() + 1), np.float32)
    return fit(features, labels, gram(features), cost, start)


@pytest.mark.parametrize("cost", [0.1, 10, 1000])
def test_weights_equal_those_of_scikit_learn(cost):
    features, labels = clusters(300)
    theirs = LinearSVC(C=cost / 300, fit_intercept=False, dual=False, tol=1e-8)
    expected = theirs.fit(features.astype(np.float64), labels).coef_.T
    np.testing.assert_allclose(fitted(features, labels, cost), expected, rtol=0.02, atol=0.002)


def test_the_search_may_start_anywhere():
    features, labels = clusters(200)
    start = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
    found = fit(features, labels, gram(features), 10.0, start)
    np.testing.assert_allclose(found, fitted(features, labels, 10.0), rtol=0.02, atol=0.002)


def test_gradient_equals_finite_differences():
    features, labels = clusters(50)
    signs = np.where(np.arange(4) == labels[:, None], 1.0, -1.0)
    weights = np.random.default_rng(1).normal(size=(7, 4))
    gradient = objective(weights, features.astype(np.float64), signs, 3.0)[1]
    for place in np.ndindex(weights.shape):
        step = np.zeros_like(weights)
        step[place] = 1e-6
        above, below = (objective(weights + x, features, signs, 3.0)[0] for x in (step, -step))
        assert gradient[place] == pytest.approx((above - below) / 2e-6, rel=1e-5, abs=1e-5)


def test_standardised_columns_have_mean_0_and_variance_1_but_the_last():
    rng = np.random.default_rng(0)
    features = rng.normal(40, 3, (500, COLUMNS + 5)).astype(np.float32)
    features[:, -1] = 1
    values = features[:, :-1].astype(np.float64)
    expected = (values - values.mean(0)) / np.sqrt(values.var(0) + 0.01)
    standardise(features, moments(features))
    np.testing.assert_allclose(features[:, :-1], expected, atol=1e-4)
    np.testing.assert_array_equal(features[:, -1], 1)


def test_errors_by_hand():
    top5 = np.array([[3, 1, 2, 4, 5], [1, 3, 2, 4, 5], [1, 2, 4, 5, 6], [7, 1, 2, 4, 5]])
    assert errors(top5, np.array([3, 3, 3, 7])) == {"top1_error": 0.5, "top5_error": 0.25}


def test_trials_validate_on_the_images_that_were_not_fitted():
    features, labels = clusters(260, classes=6)
    (first, *_) = trials(features, labels, 200, gram(features[:200]), 6)
    scores = features[200:] @ fitted(features[:200], labels[:200], selection.COSTS[0])
    wrong = np.mean(scores.argmax(1) != labels[200:])
    assert first.errors["top1_error"] == pytest.approx(wrong)


@pytest.mark.parametrize(
    ("found", "turned"),
    [
        ([0.5], False),
        ([0.5, 0.6], False),
        ([0.5, 0.6, 0.5], True),
        ([0.5, 0.6, 0.4], False),
        ([0.5, 0.4, 0.3, 0.3, 0.35], True),
    ],
)
def test_the_search_ends_after_two_costs_without_a_lower_error(found, turned):
    assert has_turned(found) == turned
