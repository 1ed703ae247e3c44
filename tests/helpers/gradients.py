"""Gradients in float64, by jax's differentiation and by differences of a NumPy function."""

import jax
import numpy as np

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def value_and_gradient(function, x, weights):
    """Returns function(x), and jax's gradient of the sum of weights · function(x)."""

    @jax.jit
    def both(x, weights):
        y, pull_back = jax.vjp(function, x)
        return y, pull_back(weights)[0]

    return map(np.asarray, both(x, weights))


def gradient(function, x, weights):
    """Returns jax's gradient of the sum of weights · function(x)."""
    shape = jax.eval_shape(function, x).shape
    _, result = value_and_gradient(function, x, np.broadcast_to(weights, shape))
    return result


def by_differences(function, x, weights, step=1e-6):
    """Returns the gradient of the same sum by central differences of a NumPy function."""
    result = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[at] += step
        down[at] -= step
        result[at] = ((function(up) - function(down)) * weights).sum() / (2 * step)
    return result
