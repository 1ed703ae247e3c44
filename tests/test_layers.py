"""Every layer's arithmetic against NumPy loops in float64, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from alexnet_jax import layers

EXACT = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def value_and_gradient(function, x, weights):
    """function(x), and the gradient of the sum of weights · function(x), as jax works them out."""

    @jax.jit
    def both(x, weights):
        y, pull_back = jax.vjp(function, x)
        return y, pull_back(weights)[0]

    return map(np.asarray, both(x, weights))


def gradient(function, x, weights):
    shape = jax.eval_shape(function, x).shape
    _, result = value_and_gradient(function, x, np.broadcast_to(weights, shape))
    return result


def by_differences(function, x, weights, step=1e-6):
    """The same by central differences of a NumPy function."""
    result = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[at] += step
        down[at] -= step
        result[at] = ((function(up) - function(down)) * weights).sum() / (2 * step)
    return result


# --- convolutions ----------------------------------------------------------------------------


def conv_by_loops(x, kernel, bias, stride, padding, over):
    size, side = kernel.shape[0], x.shape[1]
    canvas = np.zeros((len(x), side + 2 * padding + over, side + 2 * padding + over, x.shape[3]))
    canvas[:, padding : padding + side, padding : padding + side] = x
    places = (canvas.shape[1] - size) // stride + 1
    y = np.zeros((len(x), places, places, kernel.shape[3]))
    for n, i, j, f in np.ndindex(y.shape):
        window = canvas[n, i * stride : i * stride + size, j * stride : j * stride + size]
        y[n, i, j, f] = (window * kernel[..., f]).sum() + bias[f]
    return y


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
    y = layers.conv(x, kernel, bias, stride=stride, padding=padding, over=over)
    np.testing.assert_allclose(y, conv_by_loops(x, kernel, bias, stride, padding, over), **EXACT)


def test_convolution_agrees_with_scipy():
    x, kernel = random(1, 12, 12, 3), random(5, 5, 3, 2, seed=1)
    y = np.asarray(layers.conv(x, kernel, np.zeros(2), padding=2))
    for f in range(2):
        maps = [signal.correlate(x[0, ..., c], kernel[..., c, f], "same") for c in range(3)]
        np.testing.assert_allclose(y[0, ..., f], sum(maps), **EXACT)


def test_zeros_lie_beyond_the_right_and_bottom_edge_only():
    x, kernel = np.ones((1, 8, 8, 1)), np.ones((3, 3, 1, 1))
    y = layers.conv(x, kernel, np.zeros(1), stride=2, over=1)[0, ..., 0]
    np.testing.assert_array_equal(y, [[9, 9, 9, 6], [9, 9, 9, 6], [9, 9, 9, 6], [6, 6, 6, 4]])


def test_convolution_gradients_by_differences():
    x, kernel, bias = random(1, 6, 6, 2), random(3, 3, 2, 2, seed=1), random(2, seed=2)
    weights = random(1, 3, 3, 2, seed=3)
    how = {"stride": 2, "padding": 0, "over": 1}
    loops = (2, 0, 1)
    np.testing.assert_allclose(
        gradient(lambda x: layers.conv(x, kernel, bias, **how), x, weights),
        by_differences(lambda x: conv_by_loops(x, kernel, bias, *loops), x, weights),
        atol=1e-7,
    )
    np.testing.assert_allclose(
        gradient(lambda k: layers.conv(x, k, bias, **how), kernel, weights),
        by_differences(lambda k: conv_by_loops(x, k, bias, *loops), kernel, weights),
        atol=1e-7,
    )
    np.testing.assert_allclose(
        gradient(lambda b: layers.conv(x, kernel, b, **how), bias, weights),
        weights.sum((0, 1, 2)),
        **EXACT,
    )


def test_overhang_by_hand():
    assert layers.overhang(224, 55, 11, 4) == 3
    assert layers.overhang(227, 55, 11, 4) == 0
    assert layers.overhang(224, 55, 11, 4, padding=2) == 0  # torchvision's leaves a row out
    assert layers.overhang(32, 16, 3, 2) == 1
    assert layers.overhang(55, 27, 3, 2) == 0


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
    y = layers.local(x, kernel, bias, padding=padding)
    np.testing.assert_allclose(y, local_by_loops(x, kernel, bias, padding), **EXACT)


def test_local_convolution_with_one_kernel_everywhere_is_the_shared_convolution():
    x, kernel, bias = random(2, 6, 6, 3), random(3, 3, 3, 4, seed=1), random(4, seed=2)
    everywhere = np.broadcast_to(kernel.reshape(27, 4), (6, 6, 27, 4))
    y = layers.local(x, everywhere, np.broadcast_to(bias, (6, 6, 4)), padding=1)
    np.testing.assert_allclose(y, conv_by_loops(x, kernel, bias, 1, 1, 0), **EXACT)


def test_local_convolution_kernel_gradient_by_differences():
    x, kernel, bias = random(2, 3, 3, 2), random(3, 3, 18, 2, seed=1), random(3, 3, 2, seed=2)
    weights = random(2, 3, 3, 2, seed=3)
    np.testing.assert_allclose(
        gradient(lambda k: layers.local(x, k, bias, padding=1), kernel, weights),
        by_differences(lambda k: local_by_loops(x, k, bias, 1), kernel, weights),
        atol=1e-7,
    )


def test_dense_flattens_rows_columns_maps_in_this_order():
    x, kernel, bias = random(2, 2, 3, 4), random(24, 5, seed=1), random(5, seed=2)
    y = layers.dense(x, kernel, bias)
    by_loops = np.zeros((2, 5))
    for n, i, j, c, f in np.ndindex(2, 2, 3, 4, 5):
        by_loops[n, f] += x[n, i, j, c] * kernel[(i * 3 + j) * 4 + c, f]
    np.testing.assert_allclose(y, by_loops + bias, **EXACT)


# --- response normalisation ------------------------------------------------------------------


def norm_by_loops(x, axes, size, k, alpha, beta):
    y, half = np.zeros_like(x), size // 2
    for at in np.ndindex(x.shape):
        window = [slice(i, i + 1) for i in at]
        for axis in axes:
            window[axis] = slice(max(0, at[axis] - half), at[axis] + half + 1)
        y[at] = x[at] / (k + alpha * (x[tuple(window)] ** 2).sum()) ** beta
    return y


def norm_gradient_by_hand(x, axes, size, k, alpha, beta, g):
    """dy_i ÷ dx_j = [i = j] d_i^−β − 2αβ x_i x_j d_i^(−β−1) for every j in i's window."""
    result, half = np.zeros_like(x), size // 2
    for at in np.ndindex(x.shape):
        window = [slice(i, i + 1) for i in at]
        for axis in axes:
            window[axis] = slice(max(0, at[axis] - half), at[axis] + half + 1)
        window = tuple(window)
        d = k + alpha * (x[window] ** 2).sum()
        result[at] += g[at] * d**-beta
        result[window] -= g[at] * 2 * alpha * beta * x[at] * x[window] * d ** (-beta - 1)
    return result


MAPS, PLACES = (3,), (1, 2)
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
    y, gradient = value_and_gradient(lambda x: layers.response_norm(x, *how), x, g)
    np.testing.assert_allclose(y, norm_by_loops(x, *how), **EXACT)
    np.testing.assert_allclose(gradient, norm_gradient_by_hand(x, *how, g), **EXACT)


@pytest.mark.parametrize("how", NORMS.values(), ids=NORMS)
def test_response_norm_gradient_by_differences(how):
    x, g = 60 * random(1, 3, 3, 6), random(1, 3, 3, 6, seed=1)
    np.testing.assert_allclose(
        gradient(lambda x: layers.response_norm(x, *how), x, g),
        by_differences(lambda x: norm_by_loops(x, *how), x, g, step=1e-4),
        rtol=1e-6,
        atol=1e-8,
    )


def test_response_norm_of_one_value_by_hand():
    x = np.full((1, 1, 1, 1), 100.0)  # 100 ÷ (2 + 1e-4 · 10⁴)^0.75 = 100 ÷ 3^0.75
    y = layers.response_norm(x, MAPS, 5, 2.0, 1e-4, 0.75)
    np.testing.assert_allclose(y, 100 / 3**0.75, **EXACT)


def test_alpha_is_not_divided_by_the_number_of_neighbours():
    x = np.full((1, 1, 1, 5), 100.0)  # sums of 3, 4, 5, 4, 3 squares of 10⁴
    y = np.asarray(layers.response_norm(x, MAPS, 5, 2.0, 1e-4, 0.75)).ravel()
    np.testing.assert_allclose(y, 100 / np.array([5, 6, 7, 6, 5.0]) ** 0.75, **EXACT)


def test_response_norm_in_one_map_clips_the_window_at_the_border():
    x = np.full((1, 3, 3, 2), 100.0)  # 3×3 windows: 4 neighbours in a corner, 6 at a side, 9 inside
    y = np.asarray(layers.response_norm(x, PLACES, 3, 1.0, 1e-4, 0.75))[0, ..., 0]
    counts = np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]])
    np.testing.assert_allclose(y, 100 / (1 + counts) ** 0.75, **EXACT)


# --- pools -----------------------------------------------------------------------------------


def pool_by_loops(x, size, stride, over, combine):
    side = x.shape[1]
    places = (side + over - size) // stride + 1
    y = np.zeros((len(x), places, places, x.shape[3]))
    for n, i, j, c in np.ndindex(y.shape):
        rows, columns = slice(i * stride, i * stride + size), slice(j * stride, j * stride + size)
        y[n, i, j, c] = combine(x[n, rows, columns, c])  # slices end at the edge of the map
    return y


POOLS = [(5, 3, 2, 0), (6, 3, 2, 1), (32, 3, 2, 1), (7, 2, 2, 1), (8, 2, 2, 0), (3, 3, 2, 0)]


@pytest.mark.parametrize(("side", "size", "stride", "over"), POOLS)
def test_max_pool_ignores_what_hangs_over_the_edge(side, size, stride, over):
    x = random(2, side, side, 3) - 5  # negative, so that a zero beyond the edge would win
    y = layers.max_pool(x, size=size, stride=stride, over=over)
    np.testing.assert_array_equal(y, pool_by_loops(x, size, stride, over, np.max))


@pytest.mark.parametrize(("side", "size", "stride", "over"), POOLS)
def test_avg_pool_divides_by_the_number_of_places_inside(side, size, stride, over):
    x = random(2, side, side, 3)
    y = layers.avg_pool(x, size=size, stride=stride, over=over)
    np.testing.assert_allclose(y, pool_by_loops(x, size, stride, over, np.mean), **EXACT)


def test_avg_pool_of_ones_is_one_up_to_the_corner():
    y = layers.avg_pool(np.ones((1, 8, 8, 1)), size=3, stride=2, over=1)
    np.testing.assert_allclose(y, np.ones((1, 4, 4, 1)), **EXACT)


@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
@pytest.mark.parametrize(
    ("side", "size", "stride", "over"), [*POOLS[:2], (7, 2, 2, 1), (8, 2, 3, 0), (5, 3, 1, 0)]
)
def test_pool_gradients_by_differences(name, side, size, stride, over):
    pool, combine = getattr(layers, name), np.max if name == "max_pool" else np.mean
    x = random(1, side, side, 2)
    weights = random(*pool_by_loops(x, size, stride, over, combine).shape, seed=1)
    np.testing.assert_allclose(
        gradient(lambda x: pool(x, size=size, stride=stride, over=over), x, weights),
        by_differences(lambda x: pool_by_loops(x, size, stride, over, combine), x, weights),
        atol=1e-8,
    )


def test_at_a_tie_the_gradient_goes_to_winners_and_is_not_multiplied():
    x = np.array([[0, 7, 1], [7, 2, 3], [4, 5, 7.0]]).reshape(1, 3, 3, 1)
    g = gradient(lambda x: layers.max_pool(x, size=3, stride=2, over=0), x, 2.5)
    assert g.sum() == pytest.approx(2.5)
    assert (g[x < 7] == 0).all()


def test_gradients_of_overlapping_windows_add_up_where_one_place_wins_both():
    x = np.zeros((1, 3, 5, 1))
    x[0, 1, 2, 0] = 1  # in both windows of three columns
    x = np.concatenate([x, np.full((1, 2, 5, 1), -1.0)], axis=1)
    g = gradient(lambda x: layers.max_pool(x, size=3, stride=2, over=0)[:, :1], x, 1.0)
    assert g[0, 1, 2, 0] == 2
    assert g.sum() == 2


# --- activations and dropout -----------------------------------------------------------------


def test_activations():
    x = np.array([-2.0, -0.5, 0.0, 0.5, 2.0])
    np.testing.assert_array_equal(layers.ACTIVATIONS["relu"](x), [0, 0, 0, 0.5, 2])
    np.testing.assert_allclose(layers.ACTIVATIONS["tanh"](x), np.tanh(x), **EXACT)


def test_the_gradient_of_relu_at_zero_is_zero():
    g = gradient(layers.ACTIVATIONS["relu"], np.array([-1.0, 0.0, 1.0]), 1.0)
    np.testing.assert_array_equal(g, [0, 0, 1])


X, KEPT = np.array([1.0, -2.0, 3.0, 4.0]), np.array([True, False, False, True])


def test_the_papers_dropout_only_masks_in_training_and_multiplies_in_a_test():
    how = {"rate": 0.2, "inverted": False}
    np.testing.assert_allclose(layers.dropout(X, KEPT, **how), [1, 0, 0, 4], **EXACT)
    np.testing.assert_allclose(layers.dropout(X, None, **how), 0.8 * X, **EXACT)


def test_inverted_dropout_divides_in_training_and_does_nothing_in_a_test():
    how = {"rate": 0.2, "inverted": True}
    np.testing.assert_allclose(layers.dropout(X, KEPT, **how), [1 / 0.8, 0, 0, 5], **EXACT)
    np.testing.assert_array_equal(layers.dropout(X, None, **how), X)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("rate", [0.5, 0.25])
def test_a_test_multiplies_by_the_expectation_of_the_training_masks(rate, inverted):
    x, draws = random(50), 20_000
    kept = np.random.default_rng(1).random((draws, 50)) >= rate
    means = np.asarray(layers.dropout(x, kept, rate=rate, inverted=inverted)).mean(0)
    test = np.asarray(layers.dropout(x, None, rate=rate, inverted=inverted))
    scale = 1 / (1 - rate) if inverted else 1
    deviation = np.abs(x) * scale * np.sqrt(rate * (1 - rate) / draws)
    assert (np.abs(means - test) < 5 * deviation).all()


def test_dropout_passes_the_gradient_of_kept_units_only():
    g = gradient(lambda x: layers.dropout(x, KEPT, rate=0.5, inverted=True), X, 1.0)
    np.testing.assert_array_equal(g, [2, 0, 0, 2])


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
    pool = functools.partial(layers.max_pool, size=size, stride=stride, over=over)
    y, backward = jax.vjp(pool, jnp.asarray(x))
    g = rng.integers(1, 9, y.shape).astype(np.float32)
    wanted = np.zeros_like(x)
    for n, i, j, c in np.ndindex(y.shape):
        window = x[n, i * stride : i * stride + size, j * stride : j * stride + size, c]
        assert y[n, i, j, c] == window.max()
        row, column = np.unravel_index(window.argmax(), window.shape)
        wanted[n, i * stride + row, j * stride + column, c] += g[n, i, j, c]
    np.testing.assert_array_equal(backward(jnp.asarray(g))[0], wanted)
