"""Initial weights and biases: their distribution, towers and seed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_net import small

from alexnet_jax import build_model
from alexnet_jax.train.step import make_initial_state

STDS = {  # of alexnet at a quarter of the width on 64 pixels: 0.01 × √(published ÷ own fan-in)
    "conv1": 0.01, "conv2": 0.02, "conv3": 0.02, "conv4": 0.02, "conv5": 0.02,
    "fc6": 0.12, "fc7": 0.02, "fc8": 0.02,
}  # fmt: skip
BIASES = {"conv1": 0, "conv2": 1, "conv3": 0, "conv4": 1, "conv5": 1, "fc6": 1, "fc7": 1, "fc8": 0}


@pytest.fixture(scope="module")
def initial():
    model = build_model(small(width=0.25))
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    return jax.tree.map(np.asarray, params)


@pytest.mark.parametrize("layer", STDS)
def test_initial_weights_are_normal_about_zero_and_biases_constant(initial, layer):
    kernel, bias = initial[layer]["kernel"].astype(np.float64), initial[layer]["bias"]
    std, n = STDS[layer], kernel.size
    assert abs(kernel.mean()) < 5 * std / np.sqrt(n)
    assert abs(kernel.std() - std) < 5 * std / np.sqrt(2 * n)
    beyond = (np.abs(kernel) > 2 * std).mean()  # 4.55 % of a normal distribution
    assert abs(beyond - 0.0455) < 5 * np.sqrt(0.0455 * 0.9545 / n)
    np.testing.assert_array_equal(bias, BIASES[layer])


def test_the_two_towers_begin_with_different_weights(initial):
    for layer in list(STDS)[:-1]:
        first, second = initial[layer]["kernel"]
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5 / np.sqrt(first.size)


@pytest.mark.slow
def test_initial_weights_are_a_function_of_the_seed():
    config = small("four_layer", 12, 1.0)
    model = build_model(config)

    def kernel(seed):
        config.seed = seed
        return np.asarray(jax.jit(make_initial_state(config, model))().params["conv3"]["kernel"])

    third, fourth = kernel(3), kernel(4)
    np.testing.assert_array_equal(third, kernel(3))
    assert abs(np.corrcoef(third.ravel(), fourth.ravel())[0, 1]) < 0.05
