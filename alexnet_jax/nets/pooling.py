"""Pooling of NHWC arrays: first within rows, then within columns, with hand-written gradients.

On a CPU, XLA does not fuse its reduce_window with other operations. The gradients that JAX derives
for reduce_window and for strided slices take several times as long as these functions.
"""

from dataclasses import dataclass
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


def max_pool(x: Array, *, size: int, stride: int, over: int) -> Array:
    """Takes the maximum of size×size windows (paper §3.4).

    If several elements of a window are the maximum, the first of them in row-major order gets the
    gradient.

    Args:
      x: float [N, H, H, C].
      size, stride: of the windows, in pixels.
      over: pixels by which the last window reaches over the far edge; they do not count.

    Returns:
      float [N, H', H', C].
    """
    return _max_pool(x, _windows(x, size, stride, over))


def avg_pool(x: Array, *, size: int, stride: int, over: int) -> Array:
    """Takes the mean of the part of each window inside the map (cuda-convnet, `conv_util.cu`).

    The arguments and the result are those of `max_pool`.
    """
    windows = _windows(x, size, stride, over)
    # The sum pooling of ones: the number of pixels of each window that lie inside the map.
    counts = _sum_pool(jnp.ones_like(x[:1, :, :, :1]), windows)
    return _sum_pool(x, windows) / counts


@dataclass(frozen=True)
class Windows:
    """The windows along one axis: `count` of them, each of `size` pixels, `stride` pixels apart."""

    count: int
    size: int
    stride: int

    def taps(self, x: Array, axis: int, outside: float) -> list[Array]:
        """Returns the i-th element of every window along one axis, for i = 0 … size − 1.

        Args:
          x: float [N, H, W, C].
          axis: 1 or 2.
          outside: the value of elements beyond the far edge.
        """
        span = (self.count - 1) * self.stride + 1  # from the first window's start to the last's
        edges = [(0, 0, 0)] * x.ndim
        edges[axis] = (0, max(0, span + self.size - 1 - x.shape[axis]), 0)
        x = lax.pad(x, jnp.array(outside, x.dtype), edges)
        return [lax.slice_in_dim(x, i, i + span, self.stride, axis) for i in range(self.size)]

    def spread(self, taps: list[Array], axis: int, length: int) -> Array:
        """Adds window elements back to the positions they came from: the transpose of `taps`.

        Args:
          taps: `size` arrays with `count` entries along the axis.
          axis: along which to spread them.
          length: of the result along the axis.
        """
        # Output position p receives element i of window w if p = w · stride + i. All positions
        # with the same remainder p mod stride are one sum of shifted arrays; interleaving the
        # remainders gives the positions in order.
        # Cells are the positions of one remainder: enough for all windows and for the length.
        cells = max(self.count + (self.size - 1) // self.stride, -(-length // self.stride))
        before, after = taps[0].shape[:axis], taps[0].shape[axis + 1 :]
        zero = jnp.zeros((), taps[0].dtype)
        totals = [jnp.broadcast_to(zero, (*before, cells, *after))] * self.stride
        for i, tap in enumerate(taps):
            edges = [(0, 0, 0)] * tap.ndim
            edges[axis] = (i // self.stride, cells - self.count - i // self.stride, 0)
            totals[i % self.stride] += lax.pad(tap, zero, edges)
        grid = jnp.stack(totals, axis + 1).reshape(*before, cells * self.stride, *after)
        return lax.slice_in_dim(grid, 0, length, axis=axis)


def _windows(x: Array, size: int, stride: int, over: int) -> Windows:
    # Maps are square, so the windows along axis 1 are also those along axis 2.
    return Windows((x.shape[1] + over - size) // stride + 1, size, stride)


def _max_along(x: Array, axis: int, windows: Windows) -> Array:
    # Beyond the edge lies −inf, which is never the maximum and so gets no gradient.
    return reduce(jnp.maximum, windows.taps(x, axis, -jnp.inf))


def _max_along_backward(x: Array, y: Array, g: Array, axis: int, windows: Windows) -> Array:
    """Sends each window's gradient to the first element of x that equals its maximum y."""
    shares, free = [], True  # free: no earlier element of the window was the maximum
    for tap in windows.taps(x, axis, -jnp.inf):
        shares.append(jnp.where(free & (tap == y), g, 0))
        free &= tap != y
    return windows.spread(shares, axis, x.shape[axis])


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: Array, windows: Windows) -> Array:
    # The maximum of maxima: 2 · size comparisons for each window instead of size².
    return _max_along(_max_along(x, 2, windows), 1, windows)


def _max_pool_backward(windows: Windows, x: Array, g: Array) -> tuple[Array]:
    # A window along one axis has so few elements that comparing them again costs less than storing
    # which one was the maximum.
    row_maxima = _max_along(x, 2, windows)
    g = _max_along_backward(row_maxima, _max_along(row_maxima, 1, windows), g, 1, windows)
    return (_max_along_backward(x, row_maxima, g, 2, windows),)


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
