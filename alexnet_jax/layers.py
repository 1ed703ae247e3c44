"""What each layer computes: pure functions of NHWC float arrays and of one tower's parameters."""

from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
DIMENSIONS = ("NHWC", "HWIO", "NHWC")
ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}


def overhang(side: int, places: int, size: int, stride: int, padding: int = 0) -> int:
    """Pixels by which the last window hangs over the far edge of `side` + 2·padding pixels.

    cuda-convnet rounds the number of windows up (released code, `layer.py`): 224 pixels, windows
    of 11 and a stride of 4 make 55 windows, the last 3 pixels over the edge.
    """
    return max(0, (places - 1) * stride + size - (side + 2 * padding))


def conv(
    x: Array, kernel: Array, bias: Array, *, stride: int = 1, padding: int = 0, over: int = 0
) -> Array:
    """Cross-correlation with zeros around, plus one bias a map.

    Args:
      x: [N, H, W, C]. kernel: [size, size, C, F]. bias: [F].
      stride: pixels. padding: zeros on every side. over: further zeros at the bottom and right.

    Returns:
      [N, H', W', F].
    """
    edges = (padding, padding + over)
    x = lax.conv_general_dilated(
        x, kernel, (stride, stride), (edges, edges), dimension_numbers=DIMENSIONS
    )
    return x + bias


def local(x: Array, kernel: Array, bias: Array, *, padding: int) -> Array:
    """A convolution (stride 1) with a kernel and a bias of its own at every place.

    Args:
      x: [N, H, W, C]. kernel: [H', W', size²·C, F]; rows in the order (row, column, channel).
      bias: [H', W', F]. padding: zeros on every side.

    Returns:
      [N, H', W', F].
    """
    height, width = kernel.shape[:2]
    size = x.shape[1] + 2 * padding - height + 1
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    patches = jnp.concatenate(
        [x[:, i : i + height, j : j + width] for i in range(size) for j in range(size)], axis=-1
    )
    return jnp.einsum("nhwp,hwpf->nhwf", patches, kernel) + bias


def dense(x: Array, kernel: Array, bias: Array) -> Array:
    """[N, …] flattened to [N, D], times [D, F], plus [F]."""
    return x.reshape(x.shape[0], -1) @ kernel + bias


def _window_sum(x: Array, axes: tuple[int, ...], size: int) -> Array:
    """At each place the sum over `size` neighbours along each axis, cut off at the ends.

    Shifted slices, which the compiler fuses; a reduce_window it does not fuse on a CPU.
    """
    half = size // 2
    for axis in axes:
        pad = [(0, 0)] * x.ndim
        pad[axis] = (half, half)
        padded = jnp.pad(x, pad)
        length = x.shape[axis]
        x = sum(lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(size))
    return x


def _powers(d: Array, beta: float) -> tuple[Array, Array]:
    """d^−beta and d^−(beta + 1); for the usual 0.75 by square roots, without power or division."""
    if beta != 0.75:
        return d**-beta, d ** -(beta + 1)
    root = lax.rsqrt(d)
    power = root * lax.sqrt(root)
    return power, power * (root * root)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4, 5))
def response_norm(
    x: Array, axes: tuple[int, ...], size: int, k: float, alpha: float, beta: float
) -> Array:
    """Local response normalisation: x ÷ (k + alpha Σ x²)^beta (paper §3.3).

    The sum runs over `size` neighbours (odd) along each of `axes`, cut off at the ends: the maps
    (axis 3) for the paper's, both directions of one map (axes 1, 2) for cuda-convnet's `rnorm`.
    alpha multiplies the sum as it is; it is not divided by the number of neighbours.
    """
    return x * _powers(k + alpha * _window_sum(x * x, axes, size), beta)[0]


def _response_norm_forward(x: Array, *how: float) -> tuple[Array, Array]:
    return response_norm(x, *how), x


def _response_norm_backward(
    axes: tuple[int, ...], size: int, k: float, alpha: float, beta: float, x: Array, g: Array
) -> tuple[Array]:
    # Only x is kept: working out the denominator again costs less than reading it from memory.
    scale, next_power = _powers(k + alpha * _window_sum(x * x, axes, size), beta)
    inner = _window_sum(g * x * next_power, axes, size)
    return (g * scale - (2 * alpha * beta) * x * inner,)


response_norm.defvjp(_response_norm_forward, _response_norm_backward)


def _pool(
    x: Array, init: float, combine: jax.typing.ArrayLike, size: int, stride: int, over: int
) -> Array:
    edges = ((0, 0), (0, over), (0, over), (0, 0))
    window, strides = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, init, combine, window, strides, edges)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x: Array, size: int, stride: int, over: int) -> Array:
    """Of shifted slices, for a reduce_window is not vectorised on a CPU."""
    places = (x.shape[1] + over - size) // stride + 1
    return reduce(jnp.maximum, _shifted(x, places, size, stride))


def _max_pool_forward(x: Array, *how: int) -> tuple[Array, tuple[Array, Array]]:
    y = _max_pool(x, *how)
    return y, (x, y)


def _max_pool_backward(
    size: int, stride: int, over: int, saved: tuple[Array, Array], g: Array
) -> tuple[Array]:
    # XLA's own is a scatter, three times slower on a CPU. Here every input sees which windows it
    # won: inputs with the same remainder by the stride lie in windows at the same places, so each
    # such class is a few shifted reads of the map of winners.
    x, y = saved
    number, side, _, maps = x.shape
    winners, places = _winners(x, y, size, stride), y.shape[1]
    cells = max(-(-side // stride), places + (size - 1) // stride)

    def won(row: int, column: int) -> Array:
        edges = ((row // stride, cells), (column // stride, cells))
        pads = [(0, 0, 0), *((near, to - places - near, 0) for near, to in edges), (0, 0, 0)]
        won_here = jnp.where(winners == row * size + column, g, 0)
        return lax.pad(won_here, jnp.zeros((), g.dtype), pads)

    def of_class(first_row: int, first_column: int) -> Array:
        total = jnp.zeros((number, cells, cells, maps), g.dtype)
        for row in range(first_row, size, stride):
            for column in range(first_column, size, stride):
                total = total + won(row, column)
        return total

    remainders = range(stride)
    rows = [jnp.stack([of_class(i, j) for j in remainders], axis=3) for i in remainders]
    grid = jnp.stack(rows, axis=2).reshape(number, cells * stride, cells * stride, maps)
    return (grid[:, :side, :side],)


def _shifted(x: Array, places: int, size: int, stride: int) -> list[Array]:
    """What stands at each place, row by row, of the size×size windows: [N, places, places, C]."""
    span = (places - 1) * stride + 1
    short = max(0, span + size - 1 - x.shape[1])
    edges = ((0, 0, 0), (0, short, 0), (0, short, 0), (0, 0, 0))
    x = lax.pad(x, jnp.array(-jnp.inf, x.dtype), edges)
    corners = (divmod(place, size) for place in range(size * size))
    return [x[:, i : i + span : stride, j : j + span : stride] for i, j in corners]


def _winners(x: Array, y: Array, size: int, stride: int) -> Array:
    """int8: the first place (row by row) in each window that holds its maximum."""
    winners = jnp.full(y.shape, size * size, jnp.int8)
    for place, here in reversed(list(enumerate(_shifted(x, y.shape[1], size, stride)))):
        winners = jnp.where(here == y, jnp.int8(place), winners)
    return lax.optimization_barrier(winners)  # read many times, so worked out once


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def max_pool(x: Array, *, size: int, stride: int, over: int) -> Array:
    """Maximum over size×size windows; what hangs over the edge does not count (paper §3.4).

    Of equal inputs the first, row by row, gets the gradient.
    """
    return _max_pool(x, size, stride, over)


def avg_pool(x: Array, *, size: int, stride: int, over: int) -> Array:
    """Mean over the part of each window inside the map (cuda-convnet, `conv_util.cu`)."""
    counts = _pool(jnp.ones_like(x[:1, :, :, :1]), 0.0, lax.add, size, stride, over)
    return _pool(x, 0.0, lax.add, size, stride, over) / counts


def dropout(x: Array, kept: Array | None, *, rate: float, inverted: bool) -> Array:
    """Drops units (paper §4.2).

    Args:
      x: [N, …]. kept: bool mask of the same shape in training, None in a test.
      rate: probability of being dropped.
      inverted: False = training masks and tests multiply by 1 − rate, as in the paper;
        True = training divides by 1 − rate and tests do nothing, as in Caffe and PyTorch.
    """
    scale = 1.0 - rate
    if kept is None:
        return x if inverted else x * scale
    return jnp.where(kept, x / scale if inverted else x, 0)
