"""Weights that were drawn at random are recognised; trained ones are not taken for them."""

import jax
import numpy as np
import pytest

import alexnet_jax
from alexnet_jax.nets.zoo import NETS
from alexnet_jax.weights.untrained import random_layers, untrained_warning
from configs import base

rng = np.random.default_rng(0)


@pytest.mark.parametrize("name", ["alexnet", "cuda_convnet_11pct"])
def test_every_layer_of_an_initial_net_looks_random(name):
    config = base.get_config()
    config.model.update(name=name, num_classes=10)
    config.data.crop_size = min(NETS[name].crop, 64)
    model = alexnet_jax.build_model(config)
    images = np.zeros((1, model.net.crop, model.net.crop, 3), np.float32)
    draw = jax.jit(lambda key: model.init(key, images)["params"])
    for seed in range(3):
        params = draw(jax.random.key(seed))
        assert random_layers(params) == list(params)
        assert untrained_warning(params).startswith("warning: the kernels of conv1, conv2, ")


@pytest.mark.slow
def test_a_trained_net_looks_trained(trained):
    """One epoch of a small net, at half of chance's error."""
    _, variables, _ = alexnet_jax.load(trained)
    assert random_layers(variables["params"]) == []
    assert untrained_warning(variables["params"]) == ""


def test_trained_numbers_in_random_order_look_random(trained):
    """The order of the numbers decides, not how they are distributed."""
    _, variables, _ = alexnet_jax.load(trained)
    kernel = np.asarray(variables["params"]["conv1"]["kernel"])
    shuffled = rng.permutation(kernel.ravel()).reshape(kernel.shape)
    assert random_layers({"conv1": {"kernel": shuffled - kernel.mean()}}) == ["conv1"]


DRAWN = {
    "uniform": lambda shape: rng.uniform(-0.05, 0.05, shape),
    "Laplace": lambda shape: rng.laplace(0, 0.01, shape),
    "zeros": np.zeros,
}


@pytest.mark.parametrize("name", DRAWN)
def test_other_programs_initial_weights_look_random(name):
    params = {
        "conv1": {"kernel": DRAWN[name]((2, 11, 11, 3, 48))},
        "fc6": {"kernel": DRAWN[name]((2, 500, 300))},
    }
    assert random_layers(params) == ["conv1", "fc6"]


def test_only_the_first_layer_decides_on_a_warning():
    smooth = np.cumsum(rng.normal(size=(2, 11, 11, 3, 48)), axis=1)
    random = rng.normal(size=(1, 500, 300))
    assert random_layers({"conv1": {"kernel": smooth}, "fc6": {"kernel": random}}) == ["fc6"]
    assert untrained_warning({"conv1": {"kernel": smooth}, "fc6": {"kernel": random}}) == ""
