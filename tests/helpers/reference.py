"""A net's operations as NumPy loops in float64, which the package's arithmetic is compared with."""

import numpy as np

MAPS, PLACES = (3,), (1, 2)  # axes of a response norm: neighbouring maps, or places of one map


def relu(x):
    return np.maximum(x, 0)


def window_count(side, size, stride):
    """Counts the windows that fit into `side` pixels, one by one."""
    return len(range(0, side - size + 1, stride))


def conv(x, kernel, bias, stride=1, padding=0, over=0):
    """Cross-correlates [N, H, W, C] with [size, size, C, F]; `over` more zeros at the far edges."""
    edges = (padding, padding + over)
    x = np.pad(x, ((0, 0), edges, edges, (0, 0)))
    size, count = len(kernel), window_count(x.shape[1], len(kernel), stride)
    y = np.empty((len(x), count, count, kernel.shape[3]))
    for i, j in np.ndindex(count, count):
        window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
        y[:, i, j] = np.tensordot(window, kernel, 3) + bias
    return y


def neighbourhood(at, axes, size):
    """Returns the index of a position's `size` neighbours along each axis, fewer at the ends."""
    window = [slice(i, i + 1) for i in at]
    for axis in axes:
        window[axis] = slice(max(0, at[axis] - size // 2), at[axis] + size // 2 + 1)
    return tuple(window)


def response_norm(x, axes, size, k, alpha, beta):
    """Returns x ÷ (k + alpha Σ x²)^beta; the sum of squares is not divided by its length."""
    d = np.empty_like(x)
    looped = [n if axis in axes else 1 for axis, n in enumerate(x.shape)]
    for at in np.ndindex(*looped):  # along the axes of the sum; the others are slices
        near = neighbourhood(at, axes, size)
        window = tuple(s if axis in axes else slice(None) for axis, s in enumerate(near))
        place = tuple(i if axis in axes else slice(None) for axis, i in enumerate(at))
        d[place] = k + alpha * (x[window] ** 2).sum(axes)
    return x / d**beta


def pool(x, size=3, stride=2, over=0, combine=np.max):
    """Takes the maximum (or np.mean) of the part of each window that lies inside the map."""
    count = window_count(x.shape[1] + over, size, stride)
    y = np.empty((len(x), count, count, x.shape[3]))
    for i, j in np.ndindex(count, count):
        rows, columns = slice(i * stride, i * stride + size), slice(j * stride, j * stride + size)
        y[:, i, j] = combine(x[:, rows, columns], axis=(1, 2))  # slices end at the edge
    return y
