"""What each layer computes: pure functions of NHWC float arrays and of one tower's parameters."""

from dataclasses import dataclass
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
    return add_bias(x, bias)


@jax.custom_vjp
def add_bias(x: Array, bias: Array) -> Array:
    """[N, H, W, F] plus one number a map, [F]."""
    return x + bias


def _add_bias_backward(_: None, g: Array) -> tuple[Array, Array]:
    # As a product with ones: XLA's own sum over all places takes five times as long on a CPU. At
    # the highest precision, for GPUs would else round to TF32.
    rows = g.reshape(-1, g.shape[-1])
    return g, jnp.dot(jnp.ones(len(rows), g.dtype), rows, precision="highest")


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), None), _add_bias_backward)


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


@dataclass(frozen=True)
class Windows:
    """Where pooling windows lie along either direction: so many places, each `size` pixels."""

    places: int
    size: int
    stride: int

    def taps(self, x: Array, axis: int, outside: float) -> list[Array]:
        """What stands first, second, … in every window along one axis."""
        span = (self.places - 1) * self.stride + 1
        edges = [(0, 0, 0)] * x.ndim
        edges[axis] = (0, max(0, span + self.size - 1 - x.shape[axis]), 0)
        x = lax.pad(x, jnp.array(outside, x.dtype), edges)
        return [lax.slice_in_dim(x, i, i + span, self.stride, axis) for i in range(self.size)]

    def spread(self, taps: list[Array], axis: int, length: int) -> Array:
        """The transpose of `taps`: at each place along the axis the sum of what windows have there.

        Places with the same remainder by the stride are worked out together, of shifted slices;
        XLA's own transposes of strided slices and of maxima take several times as long on a CPU.
        """
        cells = max(self.places + (self.size - 1) // self.stride, -(-length // self.stride))
        before, after = taps[0].shape[:axis], taps[0].shape[axis + 1 :]
        zero = jnp.zeros((), taps[0].dtype)
        totals = [jnp.broadcast_to(zero, (*before, cells, *after))] * self.stride
        for i, tap in enumerate(taps):
            edges = [(0, 0, 0)] * tap.ndim
            edges[axis] = (i // self.stride, cells - self.places - i // self.stride, 0)
            totals[i % self.stride] += lax.pad(tap, zero, edges)
        grid = jnp.stack(totals, axis + 1).reshape(*before, cells * self.stride, *after)
        return lax.slice_in_dim(grid, 0, length, axis=axis)


def _windows(x: Array, size: int, stride: int, over: int) -> Windows:
    return Windows((x.shape[1] + over - size) // stride + 1, size, stride)


def _max_along(x: Array, axis: int, windows: Windows) -> Array:
    return reduce(jnp.maximum, windows.taps(x, axis, -jnp.inf))


def _max_along_backward(x: Array, y: Array, g: Array, axis: int, windows: Windows) -> Array:
    """The gradient by x of its maxima y: each window's goes to the first place that holds it."""
    won, free = [], True
    for here in windows.taps(x, axis, -jnp.inf):
        won.append(jnp.where(free & (here == y), g, 0))
        free &= here != y
    return windows.spread(won, axis, x.shape[axis])


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: Array, windows: Windows) -> Array:
    return _max_along(_max_along(x, 2, windows), 1, windows)


def _max_pool_backward(windows: Windows, x: Array, g: Array) -> tuple[Array]:
    # One direction after the other a window has so few places that to compare them again costs
    # less than to keep who has won.
    across = _max_along(x, 2, windows)
    g = _max_along_backward(across, _max_along(across, 1, windows), g, 1, windows)
    return (_max_along_backward(x, across, g, 2, windows),)


_max_pool.defvjp(lambda x, windows: (_max_pool(x, windows), x), _max_pool_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _sum_pool(x: Array, windows: Windows) -> Array:
    for axis in (2, 1):
        x = sum(windows.taps(x, axis, 0))
    return x


def _sum_pool_backward(windows: Windows, side: int, g: Array) -> tuple[Array]:
    for axis in (1, 2):
        g = windows.spread([g] * windows.size, axis, side)
    return (g,)


_sum_pool.defvjp(lambda x, windows: (_sum_pool(x, windows), x.shape[1]), _sum_pool_backward)


def max_pool(x: Array, *, size: int, stride: int, over: int) -> Array:
    """Maximum over size×size windows; what hangs over the edge does not count (paper §3.4).

    Of equal inputs the first, row by row, gets the gradient.
    """
    return _max_pool(x, _windows(x, size, stride, over))


def avg_pool(x: Array, *, size: int, stride: int, over: int) -> Array:
    """Mean over the part of each window inside the map (cuda-convnet, `conv_util.cu`)."""
    windows = _windows(x, size, stride, over)
    counts = _sum_pool(jnp.ones_like(x[:1, :, :, :1]), windows)
    return _sum_pool(x, windows) / counts


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
