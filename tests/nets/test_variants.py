"""Nets of other widths, towers and layers by hand, and the impossible ones."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from net_sizes import ALEXNET_LAYERS, multiply_adds, net_of, parameters, shapes_of

from alexnet_jax.errors import UserError
from alexnet_jax.nets.spec import Dropout, Exchange
from alexnet_jax.nets.variants import published, resolve, weighted_layers
from configs.base import get_config

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


@pytest.mark.parametrize("towers", [1, 2])
def test_the_classifier_alone_is_softmax_regression(towers):
    layers = published("alexnet", 1000).layers
    *others, classifier = (layer.name for layer in layers if not isinstance(layer, Exchange))
    net = net_of("alexnet", without=tuple(others), towers=towers, width=0.3)
    assert shapes_of(net)[classifier].out == (1000,)
    assert parameters(net) == 224 * 224 * 3 * 1000 + 1000


def test_a_layer_that_comes_to_read_the_image_reads_its_three_colours():
    """Every tower has the image, so that the exchange before conv3 gathers nothing."""
    shape = shapes_of(net_of("alexnet", without=("conv1", "conv2")))["conv3"]
    assert (shape.exchanged, shape.kernel) == (False, (2, 3, 3, 3, 192))


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
    assert {x.bias for x in tanh.values()} == {0}
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


def test_initial_gives_no_biases_to_a_layer_without_them():
    """Before batch normalisation they would be parameters that change nothing."""
    layers = weighted_layers(net_of("alexnet_batch_norm", initial=(("conv2", 0.05, 0.0),)))
    assert (layers["conv2"].std, layers["conv2"].bias) == (0.05, None)


def test_initial_sets_the_bias_of_a_tanh_layer_too():
    layers = weighted_layers(net_of("alexnet", activation="tanh", initial=(("fc6", 0.02, 0.25),)))
    assert (layers["fc6"].bias, layers["fc7"].bias) == (0.25, 0)


def test_an_initial_std_is_that_of_the_published_fan_in():
    """As every std of a smaller net: fc6 reads 64 numbers here and 9,216 in the paper."""
    net = net_of("alexnet", crop=64, classes=10, width=0.25, initial=(("fc6", 0.02, 1.0),))
    assert weighted_layers(net)["fc6"].std == pytest.approx(0.02 * 12, rel=1e-12)


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "lenet"}, "'lenet'"),
        ({"exchange": ("pool1", "fc8")}, "'pool1'"),
        ({"exchange": ("conv3",)}, "'fc8'"),
        ({"activation": "gelu"}, "'gelu'"),
        ({"initial": (("pool1", 0.1, 0.0),)}, "'pool1'"),
        (
            {"name": "alexnet_batch_norm", "initial": (("conv2", 0.1, 0.5),)},
            "'conv2' a bias of 0.5",
        ),
        ({"name": "alexnet_batch_norm", "without": ("conv1",)}, "before 'norm1'"),
        ({"name": "caffenet", "without": ("conv1",)}, "before 'norm1'"),
        ({"towers": 64}, "model.towers=64"),
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
