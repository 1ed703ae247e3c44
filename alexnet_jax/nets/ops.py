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
