"""The arithmetic of the layers: pure functions of NHWC arrays and of one tower's parameters."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
DIMENSIONS = ("NHWC", "HWIO", "NHWC")  # axes of the images, the kernel and the result


@jax.custom_vjp
def deconv_relu(x: Array) -> Array:
    """Rectifies x, of any shape; the backward pass rectifies the gradient as well.

    An ordinary ReLU would mask the gradient by x > 0. This is the deconvnet's rule (Zeiler and
    Fergus, arXiv 1311.2901, section 2.1).
    """
    return jax.nn.relu(x)


deconv_relu.defvjp(lambda x: (jax.nn.relu(x), None), lambda _, g: (jax.nn.relu(g),))

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "deconv_relu": deconv_relu}


def conv(
    x: Array,
    kernel: Array,
    bias: Array | None,
    *,
    stride: int = 1,
    padding: int = 0,
    over: int = 0,
) -> Array:
    """Cross-correlates images with kernels and adds one bias per map.

    Args:
      x: float [N, H, W, C].
      kernel: float [size, size, C, F].
      bias: float [F]; None to add none.
      stride: in pixels.
      padding: zeros on every side, in pixels.
      over: more zeros at the bottom and the right, in pixels, for a last window that hangs over.

    Returns:
      float [N, H', W', F].
    """
    # At the far edges only, as in cuda-convnet: halves on both sides would shift every window.
    edges = (padding, padding + over)
    x = lax.conv_general_dilated(
        x, kernel, (stride, stride), (edges, edges), dimension_numbers=DIMENSIONS
    )
    return x if bias is None else add_bias(x, bias)


@jax.custom_vjp
def add_bias(x: Array, bias: Array) -> Array:
    """Adds one number per map, [F], to [N, H, W, F]."""
    return x + bias


def _add_bias_backward(_: None, g: Array) -> tuple[Array, Array]:
    # A product with ones: XLA's own sum over all positions takes five times as long on a CPU. The
    # highest precision keeps a GPU from rounding the sum's terms to TF32.
    rows = g.reshape(-1, g.shape[-1])
    return g, jnp.dot(jnp.ones(len(rows), g.dtype), rows, precision="highest")


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), None), _add_bias_backward)


def local(x: Array, kernel: Array, bias: Array, *, padding: int) -> Array:
    """Cross-correlates with stride 1, with another kernel and bias at every position.

    Args:
      x: float [N, H, W, C].
      kernel: float [H', W', size²·C, F]; axis 2 runs over (row, column, channel) of a window.
      bias: float [H', W', F].
      padding: zeros on every side, in pixels.

    Returns:
      float [N, H', W', F].
    """
    height, width = kernel.shape[:2]
    size = x.shape[1] + 2 * padding - height + 1  # from H' = H + 2 · padding − size + 1
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    # Slices come in the order of the kernel's axis 2; conv_general_dilated_patches puts C first.
    patches = jnp.concatenate(
        [x[:, i : i + height, j : j + width] for i in range(size) for j in range(size)], axis=-1
    )
    return jnp.einsum("nhwp,hwpf->nhwf", patches, kernel) + bias


def dense(x: Array, kernel: Array, bias: Array) -> Array:
    """Flattens x, float [N, …], to [N, D], multiplies by kernel [D, F] and adds bias [F]."""
    # D runs over (row, column, map). Caffe and PyTorch have (map, row, column), which
    # weights/layouts permutes. D in place of -1, which cannot be found for N = 0.
    return x.reshape(x.shape[0], math.prod(x.shape[1:])) @ kernel + bias


def _window_sum(x: Array, axes: tuple[int, ...], size: int) -> Array:
    """Sums `size` neighbours (odd) along each axis, with fewer of them at the ends.

    XLA fuses the shifted slices of this sum on a CPU. It does not fuse a reduce_window.
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
    """Returns d^−beta and d^−(beta + 1).

    The usual beta of 0.75 needs square roots only, which are faster than a power or a division.
    """
    if beta != 0.75:
        return d**-beta, d ** -(beta + 1)
    # d^−¾ = d^−½ · d^−¼, and d^−¼ is the square root of d^−½.
    root = lax.rsqrt(d)
    power = root * lax.sqrt(root)
    return power, power * (root * root)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4, 5))
def response_norm(
    x: Array, axes: tuple[int, ...], size: int, k: float, alpha: float, beta: float
) -> Array:
    """Normalises by the activity of neighbours: y = x ÷ (k + alpha Σ x²)^beta (paper §3.3).

    Args:
      x: float [N, H, W, C].
      axes: axes that the sum runs over: (3,) for the paper's neighbouring maps, (1, 2) for
        neighbouring positions of one map (cuda-convnet's `rnorm`).
      size: neighbours (odd) along each axis; fewer at the ends.
      k, alpha, beta: the constants. alpha is not divided by the number of neighbours.

    Returns:
      float [N, H, W, C].
    """
    return x * _powers(k + alpha * _window_sum(x * x, axes, size), beta)[0]


def _response_norm_forward(x: Array, *how: float) -> tuple[Array, Array]:
    return response_norm(x, *how), x


def _response_norm_backward(
    axes: tuple[int, ...], size: int, k: float, alpha: float, beta: float, x: Array, g: Array
) -> tuple[Array]:
    # Only x is kept for the backward pass: computing the denominator d again costs less than
    # reading it from memory.
    scale, next_power = _powers(k + alpha * _window_sum(x * x, axes, size), beta)
    # dL/dx_i = g_i d_i^−beta − 2 alpha beta x_i Σ_j g_j x_j d_j^−(beta + 1). The j are those whose
    # windows hold i: as windows are symmetric, they are the window of i.
    inner = _window_sum(g * x * next_power, axes, size)
    return (g * scale - (2 * alpha * beta) * x * inner,)


response_norm.defvjp(_response_norm_forward, _response_norm_backward)


def batch_moments(
    x: Array, mask: Array, sum_over_batch: Callable[[Array], Array]
) -> tuple[Array, Array]:
    """Returns the mean and the variance of each map over the images of a batch and all positions.

    The variance is the biased one: the sum of squares is divided by the full count.

    Args:
      x: float [N, …, maps], the images on this device.
      mask: float32 [N], 1 for an image and 0 for padding, which does not count.
      sum_over_batch: sums an array over the devices that share the batch.

    Returns:
      float32 [maps] twice.
    """
    positions = math.prod(x.shape[1:-1])
    # In float32 also if x is bfloat16, whose three digits are too few for a sum over a batch.
    rows, weights = x.astype(jnp.float32).reshape(-1, x.shape[-1]), jnp.repeat(mask, positions)

    def mean_of(values: Array) -> Array:
        # A product, because XLA's own sum over all positions takes five times as long on a CPU.
        return sum_over_batch(jnp.dot(weights, values, precision="highest")) / count

    count = sum_over_batch(mask.sum()) * positions
    # Two passes: E[x²] − E[x]² would cancel in float32 where the mean is large.
    mean = mean_of(rows)
    return mean, mean_of((rows - mean) ** 2)


def batch_norm(
    x: Array, mean: Array, variance: Array, scale: Array, bias: Array, epsilon: float
) -> Array:
    """Normalises every map: y = scale · (x − mean) ÷ √(variance + epsilon) + bias.

    Args:
      x: float [N, …, maps].
      mean, variance, scale, bias: float [maps].
      epsilon: keeps the quotient finite where the variance is 0.

    Returns:
      float [N, …, maps], of x's dtype.
    """
    # One multiply-add for each element: factor and shift are computed once per map.
    factor = scale * lax.rsqrt(variance + epsilon)
    return (x * factor + (bias - mean * factor)).astype(x.dtype)


def dropout(x: Array, kept: Array | None, *, rate: float, inverted: bool) -> Array:
    """Drops units (paper §4.2).

    Args:
      x: float [N, …].
      kept: bool [N, …] in training, False for a unit to drop; None in a test.
      rate: probability of dropping a unit.
      inverted: False multiplies by 1 − rate in tests, as the paper does. True divides by 1 − rate
        in training, as Caffe and PyTorch do.

    Returns:
      float [N, …].
    """
    scale = 1.0 - rate  # probability of being kept
    if kept is None:
        return x if inverted else x * scale
    return jnp.where(kept, x / scale if inverted else x, 0)
