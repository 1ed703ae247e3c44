"""Every layer's arithmetic against NumPy loops in float64, values and gradients."""

import numpy as np
import pytest
import reference
from gradients import EXACT, by_differences, gradient, random, value_and_gradient
from reference import MAPS, PLACES
from scipy import signal

from alexnet_jax.nets import ops

pytestmark = pytest.mark.usefixtures("float64")


# --- convolutions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "size", "stride", "padding", "over"),
    [
        (9, 5, 1, 2, 0),
        (9, 3, 1, 1, 0),
        (20, 11, 4, 0, 3),  # as conv1 of 224 pixels: the last window reads three rows of zeros
        (19, 11, 4, 0, 0),  # as conv1 of 227 pixels
        (17, 11, 4, 2, 0),  # as torchvision's
        (7, 3, 2, 0, 0),
        (4, 4, 1, 0, 0),
    ],
)
def test_convolution_is_a_cross_correlation_with_zeros_around(side, size, stride, padding, over):
    x, kernel, bias = random(2, side, side, 3), random(size, size, 3, 4, seed=1), random(4, seed=2)
    y = ops.conv(x, kernel, bias, stride=stride, padding=padding, over=over)
    np.testing.assert_allclose(y, reference.conv(x, kernel, bias, stride, padding, over), **EXACT)


def test_convolution_agrees_with_scipy():
    x, kernel = random(1, 12, 12, 3), random(5, 5, 3, 2, seed=1)
    y = np.asarray(ops.conv(x, kernel, np.zeros(2), padding=2))
    for f in range(2):
        maps = [signal.correlate(x[0, ..., c], kernel[..., c, f], "same") for c in range(3)]
        np.testing.assert_allclose(y[0, ..., f], sum(maps), **EXACT)


def test_zeros_lie_beyond_the_right_and_bottom_edge_only():
    x, kernel = np.ones((1, 8, 8, 1)), np.ones((3, 3, 1, 1))
    y = ops.conv(x, kernel, np.zeros(1), stride=2, over=1)[0, ..., 0]
    np.testing.assert_array_equal(y, [[9, 9, 9, 6], [9, 9, 9, 6], [9, 9, 9, 6], [6, 6, 6, 4]])


def test_convolution_gradients_by_differences():
    x, kernel, bias = random(1, 6, 6, 2), random(3, 3, 2, 2, seed=1), random(2, seed=2)
    weights = random(1, 3, 3, 2, seed=3)
    how = {"stride": 2, "padding": 0, "over": 1}
    loops = (2, 0, 1)
    np.testing.assert_allclose(
        gradient(lambda x: ops.conv(x, kernel, bias, **how), x, weights),
        by_differences(lambda x: reference.conv(x, kernel, bias, *loops), x, weights),
        atol=1e-7,
    )
    np.testing.assert_allclose(
        gradient(lambda k: ops.conv(x, k, bias, **how), kernel, weights),
        by_differences(lambda k: reference.conv(x, k, bias, *loops), kernel, weights),
        atol=1e-7,
    )
    np.testing.assert_allclose(
        gradient(lambda b: ops.conv(x, kernel, b, **how), bias, weights),
        weights.sum((0, 1, 2)),
        **EXACT,
    )


def local_by_loops(x, kernel, bias, padding):
    height, width, _, features = kernel.shape
    size = round(np.sqrt(kernel.shape[2] / x.shape[3]))
    canvas = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    y = np.zeros((len(x), height, width, features))
    for n, i, j, f in np.ndindex(y.shape):
        total, row = bias[i, j, f], 0
        for di in range(size):
            for dj in range(size):
                for c in range(x.shape[3]):
                    total += canvas[n, i + di, j + dj, c] * kernel[i, j, row, f]
                    row += 1
        y[n, i, j, f] = total
    return y


@pytest.mark.parametrize(("side", "size", "padding"), [(6, 3, 1), (6, 3, 0), (5, 1, 0), (3, 5, 2)])
def test_local_convolution_has_a_kernel_and_a_bias_of_its_own_at_every_place(side, size, padding):
    places = side + 2 * padding - size + 1
    x, bias = random(2, side, side, 3), random(places, places, 4, seed=2)
    kernel = random(places, places, size * size * 3, 4, seed=1)
    y = ops.local(x, kernel, bias, padding=padding)
    np.testing.assert_allclose(y, local_by_loops(x, kernel, bias, padding), **EXACT)


def test_local_convolution_with_one_kernel_everywhere_is_the_shared_convolution():
    x, kernel, bias = random(2, 6, 6, 3), random(3, 3, 3, 4, seed=1), random(4, seed=2)
    everywhere = np.broadcast_to(kernel.reshape(27, 4), (6, 6, 27, 4))
    y = ops.local(x, everywhere, np.broadcast_to(bias, (6, 6, 4)), padding=1)
    np.testing.assert_allclose(y, reference.conv(x, kernel, bias, 1, 1, 0), **EXACT)


def test_local_convolution_kernel_gradient_by_differences():
    x, kernel, bias = random(2, 3, 3, 2), random(3, 3, 18, 2, seed=1), random(3, 3, 2, seed=2)
    weights = random(2, 3, 3, 2, seed=3)
    np.testing.assert_allclose(
        gradient(lambda k: ops.local(x, k, bias, padding=1), kernel, weights),
        by_differences(lambda k: local_by_loops(x, k, bias, 1), kernel, weights),
        atol=1e-7,
    )


def test_dense_flattens_rows_columns_maps_in_this_order():
    x, kernel, bias = random(2, 2, 3, 4), random(24, 5, seed=1), random(5, seed=2)
    y = ops.dense(x, kernel, bias)
    by_loops = np.zeros((2, 5))
    for n, i, j, c, f in np.ndindex(2, 2, 3, 4, 5):
        by_loops[n, f] += x[n, i, j, c] * kernel[(i * 3 + j) * 4 + c, f]
    np.testing.assert_allclose(y, by_loops + bias, **EXACT)


# --- response normalisation ------------------------------------------------------------------


def norm_gradient_by_hand(x, axes, size, k, alpha, beta, g):
    """dy_i ÷ dx_j = [i = j] d_i^−β − 2αβ x_i x_j d_i^(−β−1) for every j in i's window."""
    result = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        window = reference.neighbourhood(at, axes, size)
        d = k + alpha * (x[window] ** 2).sum()
        result[at] += g[at] * d**-beta
        result[window] -= g[at] * 2 * alpha * beta * x[at] * x[window] * d ** (-beta - 1)
    return result


# Inputs are large, so that the sum of squares matters beside k.
NORMS = {
    "paper: k 2, alpha as printed": (MAPS, 5, 2.0, 1e-4, 0.75),
    "released code: alpha over n": (MAPS, 5, 2.0, 2e-5, 0.75),
    "caffe: k 1, alpha over n": (MAPS, 5, 1.0, 2e-5, 0.75),
    "cifar 11 %: nine maps": (MAPS, 9, 1.0, 0.001 / 9, 0.75),
    "another beta": (MAPS, 5, 2.0, 1e-3, 0.5),
    "beta 1": (MAPS, 3, 1.0, 1e-2, 1.0),
    "in the map 5x5": (PLACES, 5, 1.0, 0.001 / 25, 0.75),
    "in the map 3x3": (PLACES, 3, 1.0, 5e-5 / 9, 0.75),
}
SHAPES = [(2, 1, 1, 1), (2, 1, 1, 3), (1, 3, 2, 4), (1, 2, 7, 12)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("how", NORMS.values(), ids=NORMS)
def test_response_norm_value_and_gradient(how, shape):
    x, g = 60 * random(*shape), random(*shape, seed=1)
    y, gradient = value_and_gradient(lambda x: ops.response_norm(x, *how), x, g)
    np.testing.assert_allclose(y, reference.response_norm(x, *how), **EXACT)
    np.testing.assert_allclose(gradient, norm_gradient_by_hand(x, *how, g), **EXACT)


@pytest.mark.parametrize("how", NORMS.values(), ids=NORMS)
def test_response_norm_gradient_by_differences(how):
    x, g = 60 * random(1, 3, 3, 6), random(1, 3, 3, 6, seed=1)
    np.testing.assert_allclose(
        gradient(lambda x: ops.response_norm(x, *how), x, g),
        by_differences(lambda x: reference.response_norm(x, *how), x, g, step=1e-4),
        rtol=1e-6,
        atol=1e-8,
    )


def test_response_norm_of_one_value_by_hand():
    x = np.full((1, 1, 1, 1), 100.0)  # 100 ÷ (2 + 1e-4 · 10⁴)^0.75 = 100 ÷ 3^0.75
    y = ops.response_norm(x, MAPS, 5, 2.0, 1e-4, 0.75)
    np.testing.assert_allclose(y, 100 / 3**0.75, **EXACT)


def test_alpha_is_not_divided_by_the_number_of_neighbours():
    x = np.full((1, 1, 1, 5), 100.0)  # sums of 3, 4, 5, 4, 3 squares of 10⁴
    y = np.asarray(ops.response_norm(x, MAPS, 5, 2.0, 1e-4, 0.75)).ravel()
    np.testing.assert_allclose(y, 100 / np.array([5, 6, 7, 6, 5.0]) ** 0.75, **EXACT)


def test_response_norm_in_one_map_clips_the_window_at_the_border():
    x = np.full((1, 3, 3, 2), 100.0)  # 3×3 windows: 4 neighbours in a corner, 6 at a side, 9 inside
    y = np.asarray(ops.response_norm(x, PLACES, 3, 1.0, 1e-4, 0.75))[0, ..., 0]
    counts = np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]])
    np.testing.assert_allclose(y, 100 / (1 + counts) ** 0.75, **EXACT)


# --- activations and dropout -----------------------------------------------------------------


def test_activations():
    x = np.array([-2.0, -0.5, 0.0, 0.5, 2.0])
    np.testing.assert_array_equal(ops.ACTIVATIONS["relu"](x), [0, 0, 0, 0.5, 2])
    np.testing.assert_allclose(ops.ACTIVATIONS["tanh"](x), np.tanh(x), **EXACT)


def test_the_gradient_of_relu_at_zero_is_zero():
    g = gradient(ops.ACTIVATIONS["relu"], np.array([-1.0, 0.0, 1.0]), 1.0)
    np.testing.assert_array_equal(g, [0, 0, 1])


X, KEPT = np.array([1.0, -2.0, 3.0, 4.0]), np.array([True, False, False, True])


def test_the_papers_dropout_only_masks_in_training_and_multiplies_in_a_test():
    how = {"rate": 0.2, "inverted": False}
    np.testing.assert_allclose(ops.dropout(X, KEPT, **how), [1, 0, 0, 4], **EXACT)
    np.testing.assert_allclose(ops.dropout(X, None, **how), 0.8 * X, **EXACT)


def test_inverted_dropout_divides_in_training_and_does_nothing_in_a_test():
    how = {"rate": 0.2, "inverted": True}
    np.testing.assert_allclose(ops.dropout(X, KEPT, **how), [1 / 0.8, 0, 0, 5], **EXACT)
    np.testing.assert_array_equal(ops.dropout(X, None, **how), X)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("rate", [0.5, 0.25])
def test_a_test_multiplies_by_the_expectation_of_the_training_masks(rate, inverted):
    x, draws = random(50), 20_000
    kept = np.random.default_rng(1).random((draws, 50)) >= rate
    means = np.asarray(ops.dropout(x, kept, rate=rate, inverted=inverted)).mean(0)
    test = np.asarray(ops.dropout(x, None, rate=rate, inverted=inverted))
    scale = 1 / (1 - rate) if inverted else 1
    deviation = np.abs(x) * scale * np.sqrt(rate * (1 - rate) / draws)
    assert (np.abs(means - test) < 5 * deviation).all()


def test_dropout_passes_the_gradient_of_kept_units_only():
    g = gradient(lambda x: ops.dropout(x, KEPT, rate=0.5, inverted=True), X, 1.0)
    np.testing.assert_array_equal(g, [2, 0, 0, 2])
