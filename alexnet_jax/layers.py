"""What each layer computes: pure functions of NHWC float arrays and of one tower's parameters."""

from functools import partial

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


def _power(d: Array, beta: float) -> Array:
    """d^−beta; for the usual 0.75 by square roots, which are many times faster than a power."""
    return lax.rsqrt(d) * jnp.sqrt(lax.rsqrt(d)) if beta == 0.75 else d**-beta


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4, 5))
def response_norm(
    x: Array, axes: tuple[int, ...], size: int, k: float, alpha: float, beta: float
) -> Array:
    """Local response normalisation: x ÷ (k + alpha Σ x²)^beta (paper §3.3).

    The sum runs over `size` neighbours (odd) along each of `axes`, cut off at the ends: the maps
    (axis 3) for the paper's, both directions of one map (axes 1, 2) for cuda-convnet's `rnorm`.
    alpha multiplies the sum as it is; it is not divided by the number of neighbours.
    """
    return x * _power(k + alpha * _window_sum(x * x, axes, size), beta)


def _response_norm_forward(x: Array, *how: float) -> tuple[Array, Array]:
    return response_norm(x, *how), x


def _response_norm_backward(
    axes: tuple[int, ...], size: int, k: float, alpha: float, beta: float, x: Array, g: Array
) -> tuple[Array]:
    # Only x is kept: working out the denominator again costs less than reading it from memory.
    d = k + alpha * _window_sum(x * x, axes, size)
    scale = _power(d, beta)
    inner = _window_sum(g * x * scale / d, axes, size)
    return (g * scale - (2 * alpha * beta) * x * inner,)


response_norm.defvjp(_response_norm_forward, _response_norm_backward)


def _pool(
    x: Array, init: float, combine: jax.typing.ArrayLike, size: int, stride: int, over: int
) -> Array:
    edges = ((0, 0), (0, over), (0, over), (0, 0))
    window, strides = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, init, combine, window, strides, edges)


def max_pool(x: Array, *, size: int, stride: int, over: int) -> Array:
    """Maximum over size×size windows; what hangs over the edge does not count (paper §3.4)."""
    return _pool(x, -jnp.inf, lax.max, size, stride, over)


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
