"""The nets as data against published counts and the released code's constants."""

import math

import pytest
from net_sizes import ALEXNET_LAYERS, multiply_adds, net_of, parameters, shapes_of

from alexnet_jax.nets.spec import LRN, MapLRN
from alexnet_jax.nets.variants import weighted_layers
from alexnet_jax.nets.zoo import NETS

# Published: the released code's layer files, Caffe's and torchvision's model pages; the CIFAR-10
# multiply-adds by hand: side² · kernel² · maps in · maps out, layer by layer.
PARAMETERS = {
    "alexnet": 60_965_224,
    "alexnet_released_std": 60_965_224,
    "alexnet_original": 60_965_224,
    "alexnet_half": 59_798_312,
    "alexnet_conv6": 61_555_304,
    # Of each of 1,376 maps the bias goes, and a scale and another bias come.
    "alexnet_batch_norm": 60_965_224 + 1_376,
    "caffe_alexnet": 60_965_224,
    "caffenet": 60_965_224,
    "one_weird_trick": 61_100_840,
    "cuda_convnet_18pct": 89_578,
    "cuda_convnet_13pct": 1_116_490,
    "cuda_convnet_11pct": 2_112_970,
    "four_layer": 89_578,
}
MULTIPLY_ADDS = {
    "alexnet": 724_406_816,
    "alexnet_released_std": 724_406_816,
    "alexnet_original": 724_406_816,
    "alexnet_half": 391_514_384,
    "alexnet_conv6": 745_640_480,
    "alexnet_batch_norm": 724_406_816,
    "caffe_alexnet": 724_406_816,
    "caffenet": 724_406_816,
    "one_weird_trick": 714_188_480,
    "cuda_convnet_18pct": 32**2 * 75 * 32 + 16**2 * 800 * 32 + 8**2 * 800 * 64 + 1024 * 10,
    "cuda_convnet_13pct": 24**2 * 75 * 64
    + 12**2 * 1600 * 64
    + 36 * (576 + 288) * 32
    + 36 * 32 * 10,
    "cuda_convnet_11pct": 24**2 * 75 * 64 + 12**2 * 1600 * 64 + 36 * 576 * (64 + 32) + 36 * 32 * 10,
    "four_layer": 32**2 * 75 * 32 + 16**2 * 800 * 32 + 8**2 * 800 * 64 + 1024 * 10,
}


def test_these_are_all_nets():
    assert sorted(NETS) == sorted(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_trainable_parameters_are_the_published_number(name):
    assert parameters(net_of(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", MULTIPLY_ADDS)
def test_multiply_adds_are_the_published_number(name):
    assert multiply_adds(net_of(name)) == MULTIPLY_ADDS[name]


@pytest.mark.parametrize("name", ALEXNET_LAYERS)
def test_each_layer_of_alexnet_has_its_published_sizes(name):
    weights, biases, macs, side, kernel = ALEXNET_LAYERS[name]
    shape = shapes_of(net_of("alexnet"))[name]
    towers = 1 if name == "fc8" else 2
    assert shape.kernel == (towers, *kernel)
    assert math.prod(shape.kernel) == weights
    assert math.prod(shape.bias) == biases
    assert shape.params == weights + biases
    assert shape.macs == macs
    if side:
        assert shape.out[:2] == (side, side)


def test_alexnet_has_659_272_units():
    shapes = shapes_of(net_of("alexnet"))
    assert sum(math.prod(shapes[name].out) for name in ALEXNET_LAYERS) == 659_272


def test_only_the_layers_behind_an_exchange_read_both_towers():
    shapes = shapes_of(net_of("alexnet"))
    reading = {name for name, shape in shapes.items() if shape.exchanged}
    assert reading == {"conv3", "fc6", "fc7", "fc8"}


def test_conv6_reads_both_towers():
    shape = shapes_of(net_of("alexnet_conv6"))["conv6"]
    assert shape.exchanged
    assert shape.kernel == (2, 3, 3, 256, 128)
    assert shape.out == (6, 6, 256)


# name: std, initial bias, weight decay (None = the config's); the released code's layer files
INITIAL = {
    "alexnet": {
        "conv1": (0.01, 0), "conv2": (0.01, 1), "conv3": (0.01, 0), "conv4": (0.01, 1),
        "conv5": (0.01, 1), "fc6": (0.01, 1), "fc7": (0.01, 1), "fc8": (0.01, 0),
    },
    "alexnet_released_std": {
        "conv1": (0.01, 0), "conv2": (0.01, 1), "conv3": (0.03, 0), "conv4": (0.03, 1),
        "conv5": (0.03, 1), "fc6": (0.01, 1), "fc7": (0.01, 1), "fc8": (0.01, 0),
    },
    "alexnet_original": {
        "conv1": (0.01, 0), "conv2": (0.01, 1), "conv3": (0.03, 0), "conv4": (0.03, 1),
        "conv5": (0.03, 1), "fc6": (0.01, 1), "fc7": (0.01, 1), "fc8": (0.01, 0),
    },
    "caffe_alexnet": {
        "conv1": (0.01, 0), "conv2": (0.01, 0.1), "conv3": (0.01, 0), "conv4": (0.01, 0.1),
        "conv5": (0.01, 0.1), "fc6": (0.005, 0.1), "fc7": (0.005, 0.1), "fc8": (0.01, 0),
    },
    "caffenet": {
        "conv1": (0.01, 0), "conv2": (0.01, 1), "conv3": (0.01, 0), "conv4": (0.01, 1),
        "conv5": (0.01, 1), "fc6": (0.005, 1), "fc7": (0.005, 1), "fc8": (0.01, 0),
    },
    "cuda_convnet_18pct": {
        "conv1": (1e-4, 0), "conv2": (0.01, 0), "conv3": (0.01, 0), "fc10": (0.01, 0),
    },
    "cuda_convnet_13pct": {
        "conv1": (1e-4, 0), "conv2": (0.01, 0), "local3": (0.04, 0), "local4": (0.04, 0),
        "fc10": (0.01, 0),
    },
    "cuda_convnet_11pct": {
        "conv1": (1e-4, 0), "conv2": (0.01, 0), "local3": (0.04, 0), "local4": (0.04, 0),
        "fc10": (0.01, 0),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", INITIAL)
def test_published_nets_keep_their_published_initial_std_and_bias(name):
    layers = weighted_layers(net_of(name))
    assert {x.name: (x.std, x.bias) for x in layers.values()} == {
        key: (pytest.approx(std, rel=1e-12), bias) for key, (std, bias) in INITIAL[name].items()
    }


# name: (size, k, alpha, over all towers) of every response norm; alpha multiplies the bare sum
NORMS = {
    "alexnet": [(5, 2, 1e-4, False)] * 2,
    "alexnet_released_std": [(5, 2, 1e-4, False)] * 2,
    "alexnet_original": [(5, 2, 2e-5, False)] * 2 + [(5, 1, 4e-5, None)],
    "alexnet_half": [(5, 2, 1e-4, False)] * 2,
    "alexnet_conv6": [(5, 2, 1e-4, False)] * 2,
    "caffe_alexnet": [(5, 1, 2e-5, True)] * 2,
    "caffenet": [(5, 1, 2e-5, True)] * 2,
    "one_weird_trick": [],
    "cuda_convnet_18pct": [(3, 1, 5e-5 / 9, None)] * 2,
    "cuda_convnet_13pct": [],
    "cuda_convnet_11pct": [(9, 1, 0.001 / 9, False)] * 2,
    "four_layer": [],
}


@pytest.mark.parametrize("name", NORMS)
def test_constants_of_the_response_norms(name):
    norms = [x for x in net_of(name).layers if isinstance(x, LRN | MapLRN)]
    assert all(x.beta == 0.75 for x in norms)
    assert [(x.size, x.k, x.alpha, getattr(x, "across_towers", None)) for x in norms] == [
        (size, k, pytest.approx(alpha, rel=1e-12), across) for size, k, alpha, across in NORMS[name]
    ]


def order_of(name, count):
    return [x.name for x in net_of(name).layers if hasattr(x, "name")][:count]


def test_the_released_code_normalises_the_linear_output_and_rectifies_behind_the_pool():
    assert order_of("alexnet_original", 8) == [
        "conv1", "norm1", "pool1", "relu1", "conv2", "norm2", "mapnorm2", "pool2",
    ]  # fmt: skip
    assert weighted_layers(net_of("alexnet_original"))["conv1"].activation is None


def test_caffenet_pools_before_it_normalises_and_caffe_alexnet_behind():
    assert order_of("caffenet", 3) == ["conv1", "pool1", "norm1"]
    assert order_of("caffe_alexnet", 3) == ["conv1", "norm1", "pool1"]
