"""Pooling against NumPy loops in float64, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from gradients import EXACT, by_differences, gradient, random

from alexnet_jax.nets import pooling

pytestmark = pytest.mark.usefixtures("float64")


POOLS = [(5, 3, 2, 0), (6, 3, 2, 1), (32, 3, 2, 1), (7, 2, 2, 1), (8, 2, 2, 0), (3, 3, 2, 0)]


@pytest.mark.parametrize(("side", "size", "stride", "over"), POOLS)
def test_max_pool_ignores_what_hangs_over_the_edge(side, size, stride, over):
    x = random(2, side, side, 3) - 5  # negative, so that a zero beyond the edge would win
    y = pooling.max_pool(x, size=size, stride=stride, over=over)
    np.testing.assert_array_equal(y, reference.pool(x, size, stride, over, np.max))


@pytest.mark.parametrize(("side", "size", "stride", "over"), POOLS)
def test_avg_pool_divides_by_the_number_of_places_inside(side, size, stride, over):
    x = random(2, side, side, 3)
    y = pooling.avg_pool(x, size=size, stride=stride, over=over)
    np.testing.assert_allclose(y, reference.pool(x, size, stride, over, np.mean), **EXACT)


def test_avg_pool_of_ones_is_one_up_to_the_corner():
    y = pooling.avg_pool(np.ones((1, 8, 8, 1)), size=3, stride=2, over=1)
    np.testing.assert_allclose(y, np.ones((1, 4, 4, 1)), **EXACT)


@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
@pytest.mark.parametrize(
    ("side", "size", "stride", "over"), [*POOLS[:2], (7, 2, 2, 1), (8, 2, 3, 0), (5, 3, 1, 0)]
)
def test_pool_gradients_by_differences(name, side, size, stride, over):
    pool, combine = getattr(pooling, name), np.max if name == "max_pool" else np.mean
    x = random(1, side, side, 2)
    weights = random(*reference.pool(x, size, stride, over, combine).shape, seed=1)
    np.testing.assert_allclose(
        gradient(lambda x: pool(x, size=size, stride=stride, over=over), x, weights),
        by_differences(lambda x: reference.pool(x, size, stride, over, combine), x, weights),
        atol=1e-8,
    )


def test_at_a_tie_the_gradient_goes_to_winners_and_is_not_multiplied():
    x = np.array([[0, 7, 1], [7, 2, 3], [4, 5, 7.0]]).reshape(1, 3, 3, 1)
    g = gradient(lambda x: pooling.max_pool(x, size=3, stride=2, over=0), x, 2.5)
    assert g.sum() == pytest.approx(2.5)
    assert (g[x < 7] == 0).all()


def test_gradients_of_overlapping_windows_add_up_where_one_place_wins_both():
    x = np.zeros((1, 3, 5, 1))
    x[0, 1, 2, 0] = 1  # in both windows of three columns
    x = np.concatenate([x, np.full((1, 2, 5, 1), -1.0)], axis=1)
    g = gradient(lambda x: pooling.max_pool(x, size=3, stride=2, over=0)[:, :1], x, 1.0)
    assert g[0, 1, 2, 0] == 2
    assert g.sum() == 2


@pytest.mark.parametrize(
    ("side", "size", "stride", "over"),
    [
        (7, 3, 2, 0),
        (8, 3, 2, 1),
        (5, 2, 2, 1),
        (6, 1, 2, 0),
        (9, 3, 1, 0),
        (9, 2, 3, 0),
        (4, 4, 4, 0),
    ],
)
def test_max_pool_gives_the_gradient_to_the_first_of_equals(side, size, stride, over):
    """By a loop over the windows, on small whole numbers so that ties abound."""
    rng = np.random.default_rng(side)
    x = rng.integers(0, 3, (2, side, side, 3)).astype(np.float32)
    pool = functools.partial(pooling.max_pool, size=size, stride=stride, over=over)
    y, backward = jax.vjp(pool, jnp.asarray(x))
    y = np.asarray(y)  # reading a jax array element by element is slow
    g = rng.integers(1, 9, y.shape).astype(np.float32)
    wanted = np.zeros_like(x)
    for n, i, j, c in np.ndindex(y.shape):
        window = x[n, i * stride : i * stride + size, j * stride : j * stride + size, c]
        assert y[n, i, j, c] == window.max()
        row, column = np.unravel_index(window.argmax(), window.shape)
        wanted[n, i * stride + row, j * stride + column, c] += g[n, i, j, c]
    np.testing.assert_array_equal(backward(jnp.asarray(g))[0], wanted)
