"""The nets as data against published counts, the released code's sizes and arithmetic by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_jax.errors import UserError
from alexnet_jax.nets.shapes import (
    WindowTooLargeError,
    layer_shapes,
    layer_table,
    overhang,
    smallest_crop,
    window_count,
)
from alexnet_jax.nets.spec import LRN, Conv, Dropout, Local, MapLRN, MaxPool, Pool
from alexnet_jax.nets.variants import resolve, weighted_layers
from alexnet_jax.nets.zoo import NETS
from configs.base import get_config

CIFAR = ("cuda_convnet_18pct", "cuda_convnet_13pct", "cuda_convnet_11pct", "four_layer")


def net_of(name="alexnet", crop=None, classes=None, width=1.0, **changes):
    """Returns the net that a config resolves to; of the published size by default."""
    config = get_config()
    config.model.name = name
    config.model.width = width
    config.model.num_classes = classes or (10 if name in CIFAR else 1000)
    for key, value in changes.items():
        setattr(config.model, key, value)
    return resolve(config.model, crop or NETS[name].crop)


def shapes_of(net):
    return {shape.layer.name: shape for shape in layer_shapes(net, net.crop)}


def parameters(net):
    return sum(shape.params for shape in shapes_of(net).values())


def multiply_adds(net):
    return sum(shape.macs for shape in shapes_of(net).values())


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


# name: weights, biases, multiply-adds, side of the output, kernel of one tower
ALEXNET_LAYERS = {
    "conv1": (34_848, 96, 105_415_200, 55, (11, 11, 3, 48)),
    "conv2": (307_200, 256, 223_948_800, 27, (5, 5, 48, 128)),
    "conv3": (884_736, 384, 149_520_384, 13, (3, 3, 256, 192)),
    "conv4": (663_552, 384, 112_140_288, 13, (3, 3, 192, 192)),
    "conv5": (442_368, 256, 74_760_192, 13, (3, 3, 192, 128)),
    "fc6": (37_748_736, 4096, 37_748_736, None, (9216, 2048)),
    "fc7": (16_777_216, 4096, 16_777_216, None, (4096, 2048)),
    "fc8": (4_096_000, 1000, 4_096_000, None, (4096, 1000)),
}


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


# --- windows ---------------------------------------------------------------------------------


def test_conv1_sees_224_pixels_and_three_rows_of_zeros_beyond_the_far_edge():
    conv1 = NETS["alexnet"].layers[0]
    count = window_count(224, conv1)
    assert count == 55
    assert overhang(224, conv1) == 3
    first_of_last_window = (count - 1) * conv1.stride  # no padding before the first pixel
    assert first_of_last_window == 216
    assert first_of_last_window + conv1.size == 224 + 3


def test_conv1_of_caffe_fits_227_pixels_exactly():
    conv1 = NETS["caffe_alexnet"].layers[0]
    assert window_count(227, conv1) == 55
    assert overhang(227, conv1) == 0


def test_conv1_of_torchvision_leaves_the_last_pixels_out():
    conv1 = NETS["one_weird_trick"].layers[0]
    assert window_count(224, conv1) == 55  # floor(217 ÷ 4) + 1
    assert overhang(224, conv1) == 0


SIDES = {
    "alexnet": [55, 27, 27, 13, 13, 13, 13, 6],
    "alexnet_released_std": [55, 27, 27, 13, 13, 13, 13, 6],
    "alexnet_original": [55, 27, 27, 13, 13, 13, 13, 6],
    "alexnet_half": [55, 27, 27, 13, 13, 13, 13, 6],
    "caffe_alexnet": [55, 27, 27, 13, 13, 13, 13, 6],
    "caffenet": [55, 27, 27, 13, 13, 13, 13, 6],
    "one_weird_trick": [55, 27, 27, 13, 13, 13, 13, 6],
    "alexnet_conv6": [55, 27, 27, 13, 13, 13, 13, 6, 6],
    "cuda_convnet_18pct": [32, 16, 16, 8, 8, 4],
    "four_layer": [32, 16, 16, 8, 8, 4],
    "cuda_convnet_13pct": [24, 12, 12, 6, 6, 6],
    "cuda_convnet_11pct": [24, 12, 12, 6, 6, 6],
}


@pytest.mark.parametrize("name", SIDES)
def test_sides_from_the_first_convolution_to_the_last_pool(name):
    sides = [
        shape.out[0]
        for shape in shapes_of(net_of(name)).values()
        if isinstance(shape.layer, Conv | Local | Pool)
    ]
    assert sides == SIDES[name]


def test_pools_of_the_paper_never_hang_over_but_those_of_the_cifar_nets_do():
    for side, count in ((55, 27), (27, 13), (13, 6)):
        assert window_count(side, MaxPool("p")) == count
        assert overhang(side, MaxPool("p")) == 0
    for side, count in ((32, 16), (16, 8), (8, 4), (24, 12), (12, 6)):
        assert window_count(side, MaxPool("p")) == count
        assert overhang(side, MaxPool("p")) == 1


WINDOWS = st.tuples(
    st.integers(1, 300), st.integers(1, 15), st.integers(1, 15), st.integers(0, 7), st.booleans()
).filter(lambda w: w[1] + 2 * w[3] >= 1 and w[0] + 2 * w[3] >= w[1] and w[2] <= w[1])


@given(WINDOWS)
@settings(max_examples=300, deadline=None)
def test_windows_that_overlap_or_touch_cover_every_row_up_to_the_end_of_the_last(window):
    side, size, stride, padding, ceil = window
    layer = Conv("c", 1, size, stride=stride, padding=padding, ceil=ceil)
    count = window_count(side, layer)
    covered = {window * stride + i for window in range(count) for i in range(size)}
    assert covered == set(range((count - 1) * stride + size))


@given(WINDOWS)
@settings(max_examples=300, deadline=None)
def test_rounding_up_covers_all_rows_and_the_last_window_starts_inside(window):
    side, size, stride, padding, _ = window
    layer = Conv("c", 1, size, stride=stride, padding=padding, ceil=True)
    rows = side + 2 * padding
    start = (window_count(side, layer) - 1) * stride
    assert start < rows  # the last window reads at least one real row
    assert start + size >= rows  # and no row is left out
    assert start + size - rows < stride  # nor would one window fewer do
    assert overhang(side, layer) == start + size - rows


@given(WINDOWS)
@settings(max_examples=300, deadline=None)
def test_rounding_down_leaves_no_window_over_the_edge_and_none_out(window):
    side, size, stride, padding, _ = window
    layer = Conv("c", 1, size, stride=stride, padding=padding)
    starts = list(range(0, side + 2 * padding - size + 1, stride))
    assert window_count(side, layer) == len(starts)
    assert overhang(side, layer) == 0


def test_a_window_larger_than_its_input_is_refused():
    with pytest.raises(WindowTooLargeError):
        window_count(10, Conv("c", 1, 11))


# --- the numbers in the tuples ---------------------------------------------------------------

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


def test_weight_decay_by_layer_of_the_cifar_nets():
    decays = {
        name: [x.weight_decay for x in weighted_layers(net_of(name)).values()] for name in CIFAR
    }
    assert decays == {
        "cuda_convnet_18pct": [0.004, 0.004, 0.004, 1.0],
        "cuda_convnet_13pct": [0, 0, 0.004, 0.004, 0.004],
        "cuda_convnet_11pct": [0, 0, 0.004, 0.004, 0.01],
        "four_layer": [0, 0, 0, 0],
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


# --- smaller nets ----------------------------------------------------------------------------


def test_a_quarter_of_alexnet_on_64_pixels_by_hand():
    # conv1: ceil(53 ÷ 4) + 1 = 15, pools 15 → 7 → 3 → 1; 24, 64, 96, 96, 64 maps, 1,024 units
    shapes = shapes_of(net_of("alexnet", crop=64, classes=10, width=0.25))
    assert shapes["conv1"].out == (15, 15, 24)
    assert shapes["pool1"].out == (7, 7, 24)
    assert shapes["conv2"].out == (7, 7, 64)
    assert shapes["pool5"].out == (1, 1, 64)
    assert shapes["fc6"].kernel == (2, 64, 512)
    assert shapes["fc8"].kernel == (1, 1024, 10)
    by_hand = (
        363 * 24 + 24 + 2 * 25 * 12 * 32 + 64 + 9 * 64 * 96 + 96 + 2 * 9 * 48 * 48 + 96
        + 2 * 9 * 48 * 32 + 64 + 64 * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 * 10 + 10
    )  # fmt: skip
    assert sum(shape.params for shape in shapes.values()) == by_hand


def test_initial_std_of_a_quarter_of_alexnet_on_64_pixels_by_hand():
    # fan-ins 1200 → 300, 2304 → 576, 1728 → 432 twice, 9216 → 64, 4096 → 1024 twice
    layers = weighted_layers(net_of("alexnet", crop=64, classes=10, width=0.25))
    stds = {
        "conv1": 0.01, "conv2": 0.02, "conv3": 0.02, "conv4": 0.02, "conv5": 0.02,
        "fc6": 0.12, "fc7": 0.02, "fc8": 0.02,
    }  # fmt: skip
    assert {x.name: x.std for x in layers.values()} == pytest.approx(stds, rel=1e-12)


def test_initial_std_of_alexnet_in_one_column_by_hand():
    # without towers conv2, conv4, conv5 read twice the maps; the others read the same as before
    layers = weighted_layers(net_of("alexnet", towers=1))
    halved = 0.01 / math.sqrt(2)
    assert [layers[f"conv{i}"].std for i in range(1, 6)] == pytest.approx(
        [0.01, halved, 0.01, halved, halved], rel=1e-12
    )
    assert layers["fc6"].std == pytest.approx(0.01, rel=1e-12)


def test_pytorchs_initial_variance_is_a_third_of_one_over_the_fan_in():
    layers = weighted_layers(net_of("one_weird_trick"))
    assert layers["conv2"].std == pytest.approx(1 / math.sqrt(3 * 25 * 64), rel=1e-12)
    assert layers["fc7"].std == pytest.approx(1 / math.sqrt(3 * 4096), rel=1e-12)


def test_alexnet_in_one_column_has_the_ungrouped_counts():
    net = net_of("alexnet", towers=1)
    assert parameters(net) == 62_378_344
    assert multiply_adds(net) == 1_135_256_096


def test_four_towers_by_hand():
    shapes = shapes_of(net_of("alexnet", towers=4))
    assert shapes["conv1"].kernel == (4, 11, 11, 3, 24)
    assert shapes["conv2"].kernel == (4, 5, 5, 24, 64)
    assert shapes["conv3"].kernel == (4, 3, 3, 256, 96)
    assert shapes["fc6"].kernel == (4, 9216, 1024)
    assert shapes["fc8"].kernel == (1, 4096, 1000)
    grouped = 307_200 + 663_552 + 442_368  # these layers have half the weights with four towers
    assert sum(s.params for s in shapes.values()) == 60_965_224 - grouped // 2


def test_towers_that_meet_only_at_the_classifier():
    # net 150 of the released code; conv3, fc6 and fc7 lose the half that read the other tower
    net = net_of("alexnet", exchange=("fc8",))
    assert parameters(net) == 60_965_224 - (884_736 + 37_748_736 + 16_777_216) // 2
    assert [name for name, s in shapes_of(net).items() if s.exchanged] == ["fc8"]


def test_exchange_everywhere_has_the_ungrouped_weights():
    net = net_of("alexnet", exchange=tuple(ALEXNET_LAYERS)[1:])
    assert parameters(net) == 62_378_344


def test_a_left_out_layer_is_gone_and_the_next_one_reads_what_came_before():
    net = net_of("alexnet", without=("conv4",))
    assert "conv4" not in shapes_of(net)
    assert parameters(net) == 60_965_224 - 663_552 - 384


def test_a_left_out_layer_keeps_the_exchange_in_front_of_it():
    net = net_of("alexnet", without=("conv3",))
    assert shapes_of(net)["conv4"].kernel == (2, 3, 3, 256, 192)


def test_lrn_false_leaves_out_every_norm_and_nothing_else():
    names = [x.name for x in net_of("alexnet_original", lrn=False).layers if hasattr(x, "name")]
    assert not {"norm1", "norm2", "mapnorm2"} & set(names)
    assert parameters(net_of("alexnet_original", lrn=False)) == 60_965_224


@pytest.mark.parametrize("name", ["alexnet", "alexnet_original", "caffe_alexnet", "caffenet"])
def test_windows_of_2_keep_the_sizes_of_the_overlapping_pools(name):
    """As in released net 147: ⌊(55 − 2) ÷ 2⌋ + 1 = 27, then 13 and 6."""
    net = net_of(name, pool_size=2)
    shapes = shapes_of(net)
    assert [shapes[f"pool{i}"].out[0] for i in (1, 2, 5)] == [27, 13, 6]
    assert all(shapes[f"pool{i}"].layer.size == 2 for i in (1, 2, 5))
    assert parameters(net) == 60_965_224


@pytest.mark.parametrize("name", ["cuda_convnet_18pct", "four_layer"])
def test_windows_of_2_keep_the_sizes_of_the_cifar_pools(name):
    shapes = shapes_of(net_of(name, pool_size=2))
    assert [shapes[f"pool{i}"].out[0] for i in (1, 2, 3)] == [16, 8, 4]


def test_windows_of_4_round_up_as_those_of_3_do():
    shapes = shapes_of(net_of("alexnet", pool_size=4))  # ⌈(55 − 4) ÷ 2⌉ + 1 = 27
    assert [shapes[f"pool{i}"].out[0] for i in (1, 2, 5)] == [27, 13, 6]


def test_dropout_override_sets_every_rate_and_zero_leaves_it_out():
    rates = [x.rate for x in net_of("alexnet", dropout=0.25).layers if isinstance(x, Dropout)]
    assert rates == [0.25, 0.25]
    names = [x.name for x in net_of("alexnet", dropout=0.0).layers if hasattr(x, "name")]
    assert not {"drop6", "drop7"} & set(names)


def test_activation_override_spares_the_linear_layers():
    layers = weighted_layers(net_of("alexnet", activation="tanh"))
    assert {layers[name].activation for name in ("conv1", "conv5", "fc7")} == {"tanh"}
    assert layers["fc8"].activation is None


@pytest.mark.parametrize("name", ["alexnet", "alexnet_original", "caffenet"])
def test_tanh_starts_from_biases_of_0(name):
    """Biases of 1, which give ReLUs positive inputs, saturate a tanh."""
    tanh = weighted_layers(net_of(name, activation="tanh"))
    assert {x.bias for x in tanh.values() if x.activation == "tanh"} == {0}
    relu = weighted_layers(net_of(name, activation="relu"))
    published = weighted_layers(net_of(name))
    assert [x.bias for x in relu.values()] == [x.bias for x in published.values()]


def test_initial_sets_the_std_and_the_bias_of_the_named_layers_only():
    published = weighted_layers(net_of("alexnet"))
    initial = (("conv2", 0.05, 0.5), ("fc8", 0.001, -1.0))
    changed = weighted_layers(net_of("alexnet", initial=initial))
    for name, std, bias in initial:
        assert (changed[name].std, changed[name].bias) == (pytest.approx(std, rel=1e-12), bias)
    assert all(changed[x] == published[x] for x in published if x not in ("conv2", "fc8"))


def test_initial_sets_the_bias_of_a_tanh_layer_too():
    layers = weighted_layers(net_of("alexnet", activation="tanh", initial=(("fc6", 0.02, 0.25),)))
    assert (layers["fc6"].bias, layers["fc7"].bias) == (0.25, 0)


def test_an_initial_std_is_that_of_the_published_fan_in():
    """As every std of a smaller net: fc6 reads 64 numbers here and 9,216 in the paper."""
    net = net_of("alexnet", crop=64, classes=10, width=0.25, initial=(("fc6", 0.02, 1.0),))
    assert weighted_layers(net)["fc6"].std == pytest.approx(0.02 * 12, rel=1e-12)


SMALLEST = {
    # hand-worked backwards from a last pool that needs 3 pixels
    "alexnet": 52, "alexnet_original": 52, "alexnet_half": 52, "alexnet_conv6": 52,
    "caffe_alexnet": 55, "caffenet": 55, "one_weird_trick": 63,
    "cuda_convnet_18pct": 12, "four_layer": 12, "cuda_convnet_13pct": 6, "cuda_convnet_11pct": 6,
}  # fmt: skip


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_crop_by_hand(name):
    assert smallest_crop(net_of(name)) == SMALLEST[name]
    assert shapes_of(net_of(name, crop=SMALLEST[name]))


@pytest.mark.parametrize("name", SMALLEST)
def test_a_crop_too_small_is_refused_with_the_smallest_possible(name):
    crop = SMALLEST[name] - 1
    with pytest.raises(UserError, match=rf"crop_size={crop} .* {SMALLEST[name]}$"):
        net_of(name, crop=crop)


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "lenet"}, "'lenet'"),
        ({"without": ("conv9",)}, "'conv9'"),
        ({"without": ("fc8",)}, "'fc8'"),
        ({"exchange": ("pool1", "fc8")}, "'pool1'"),
        ({"exchange": ("conv3",)}, "'fc8'"),
        ({"activation": "gelu"}, "'gelu'"),
        ({"initial": (("conv9", 0.1, 0.0),)}, "'conv9'"),
        ({"initial": (("pool1", 0.1, 0.0),)}, "'pool1'"),
        ({"towers": 3}, "model.towers=3"),
        ({"towers": 64}, "model.towers=64"),
        ({"width": 0.3}, "0.3"),
        ({"width": 1 / 32}, "0.03125"),
        ({"width": 0.001}, "0.001"),
    ],
)
def test_an_impossible_net_is_refused_by_its_value(changes, named):
    config = get_config()
    config.model.num_classes = 1000
    config.model.width = 1.0
    for key, value in changes.items():
        setattr(config.model, key, value)
    with pytest.raises(UserError) as refusal:
        resolve(config.model, 224)
    assert named in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "towers", "width"),
    [
        ("alexnet", 2, 0.3),
        ("alexnet", 4, 1 / 32),
        ("alexnet", 8, 1.99),
        ("cuda_convnet_18pct", 1, 0.51),
        ("one_weird_trick", 1, 1.0157),
    ],
)
def test_the_width_that_a_refusal_advises_is_possible(name, towers, width):
    with pytest.raises(UserError) as refusal:
        net_of(name, width=width, towers=towers)
    advised = float(str(refusal.value).split("such as ")[1])
    net_of(name, width=advised, towers=towers)


def test_an_exchange_before_conv1_which_reads_the_image_is_refused():
    with pytest.raises(UserError, match="conv1"):
        net_of("alexnet", exchange=("conv1", "fc8"))


@pytest.mark.parametrize("width", [1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 0.75, 1.0, 2.0])
def test_a_width_multiplies_every_layer_but_the_classifier(width):
    layers = weighted_layers(net_of("alexnet", crop=64, classes=7, width=width))
    published = [96, 256, 384, 384, 256, 4096, 4096]
    assert [x.features for x in layers.values()] == [int(width * x) for x in published] + [7]


WIDTHS = st.one_of(st.floats(0.01, 4.0), st.integers(1, 64).map(lambda n: n / 32))


@given(WIDTHS, st.sampled_from([1, 2, 4, 8]))
@settings(max_examples=200, deadline=None)
def test_a_width_either_divides_among_the_towers_or_is_refused(width, towers):
    published = [96, 256, 384, 384, 256, 4096, 4096]
    units = [x * width / towers for x in published]
    divides = all(math.isclose(x, round(x), rel_tol=1e-9) and round(x) >= 1 for x in units)
    try:
        layers = weighted_layers(net_of("alexnet", crop=64, classes=7, width=width, towers=towers))
    except UserError as refusal:
        assert not divides
        assert repr(width) in str(refusal)
    else:
        assert divides
        assert [x.features for x in layers.values()][:-1] == [round(x * towers) for x in units]


# --- the layer table -------------------------------------------------------------------------


def test_the_layer_table_prints_published_numbers_by_layer():
    header, *table = layer_table(net_of("alexnet"))
    rows = {name: dict(zip(header, (name, *cells), strict=True)) for name, *cells in table}
    for name, (weights, biases, macs, *_) in ALEXNET_LAYERS.items():
        assert rows[name]["parameters"] == f"{weights + biases:,}"
        assert rows[name]["multiply-adds"] == f"{macs:,}"
    assert rows["total"]["parameters"] == "60,965,224"
    assert rows["total"]["multiply-adds"] == "724,406,816"
    assert rows["conv1"]["output"] == "55×55×96"
    assert rows["conv1"]["a tower has"] == "48 of 96"
    assert rows["conv1"]["kernel"] == "11×11×3×48"
    assert [rows[f"conv{i}"]["reads"] for i in (2, 3)] == ["its own", "all towers"]
    assert [rows[x]["a tower has"] for x in ("norm1", "fc7", "fc8")] == [
        "48 of 96", "2048 of 4096", "all",
    ]  # fmt: skip


def test_convolutions_hold_91_9_percent_of_the_multiply_adds_and_3_8_of_the_parameters():
    shapes = shapes_of(net_of("alexnet"))
    convs = [s for s in shapes.values() if isinstance(s.layer, Conv)]
    assert sum(s.macs for s in convs) == 665_784_864
    assert sum(s.params for s in convs) == 2_334_080
    assert np.isclose(665_784_864 / 724_406_816, 0.919, atol=5e-4)
