"""Nets on devices: gathers listed by hand, the model's own, and shares as jax divides them."""

import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from alexnet_jax.nets.model import AlexNet, on_devices
from alexnet_jax.nets.placement import (
    BATCH,
    TOWERS,
    UNITS,
    global_norm,
    param_specs,
    place,
    with_parameters,
)
from alexnet_jax.nets.variants import resolve
from alexnet_jax.nets.zoo import NETS
from alexnet_jax.parallel import (
    DATA,
    REPLICATED,
    TOWER,
    Layout,
    batch_spec,
    example_indices,
    make_devices,
)
from configs.base import get_config

BATCH_SIZE = 8
AXES = {UNITS: DATA, TOWERS: TOWER, BATCH: DATA}
ONE, DATA_ONLY = Layout(), Layout(data=2)
TOWER_ONLY, BOTH = Layout(tower=2), Layout(data=4, tower=2)
HYBRID, HYBRID_BOTH = Layout(data=4, hybrid=True), Layout(data=2, tower=2, hybrid=True)
# Nets whose towers can lie on two devices:
DIVIDED = ("alexnet", "alexnet_original", "alexnet_conv6", "alexnet_batch_norm")
CASES = [
    pytest.param(name, layout, id=f"{name}-{layout.data}x{layout.tower}{'h' * layout.hybrid}")
    for name in NETS
    for layout in (ONE, DATA_ONLY, TOWER_ONLY, BOTH, HYBRID, HYBRID_BOTH)
    if layout.tower == 1 or name in DIVIDED
]


def published(name):
    config = get_config()
    config.model.name, config.model.width, config.model.num_classes = name, 1.0, 1000
    return resolve(config.model, NETS[name].crop)


def gathers_of(net, layout):
    """Lists the gathers in order: layer, fields of each Gather."""
    return [
        (placed.shape.layer.name, x.of, x.devices, x.features, x.full_batch, x.copies)
        for placed in place(net, layout)
        for x in placed.gathers
    ]


# --- gathers of the paper's net, by hand -----------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "devices"), [(ONE, 1), (DATA_ONLY, 1), (TOWER_ONLY, 2), (BOTH, 2)], ids=str
)
def test_towers_exchange_before_conv3_fc6_fc7_and_fc8(layout, devices):
    assert gathers_of(published("alexnet"), layout) == [
        ("conv3", TOWERS, devices, (13, 13, 256), False, 1),
        ("fc6", TOWERS, devices, (6, 6, 256), False, 1),
        ("fc7", TOWERS, devices, (4096,), False, 1),
        ("fc8", TOWERS, devices, (4096,), False, 1),
    ]


def test_hybrid_dense_layers_gather_the_batch_once_and_then_units():
    """Each device holds both towers: 2 × 2,048 units, a quarter of which it computes."""
    assert gathers_of(published("alexnet"), HYBRID) == [
        ("conv3", TOWERS, 1, (13, 13, 256), False, 1),
        ("fc6", TOWERS, 1, (6, 6, 256), False, 1),
        ("fc6", BATCH, 4, (6, 6, 256), True, 1),
        ("fc7", UNITS, 4, (2048,), True, 2),
        ("fc7", TOWERS, 1, (4096,), True, 1),
        ("fc8", UNITS, 4, (2048,), True, 2),
        ("fc8", TOWERS, 1, (4096,), True, 1),
    ]


def test_hybrid_towers_on_two_devices_each_gather_their_own_units():
    assert gathers_of(published("alexnet"), HYBRID_BOTH) == [
        ("conv3", TOWERS, 2, (13, 13, 256), False, 1),
        ("fc6", TOWERS, 2, (6, 6, 256), False, 1),
        ("fc6", BATCH, 2, (6, 6, 256), True, 1),
        ("fc7", UNITS, 2, (2048,), True, 1),
        ("fc7", TOWERS, 2, (4096,), True, 1),
        ("fc8", UNITS, 2, (2048,), True, 1),
        ("fc8", TOWERS, 2, (4096,), True, 1),
    ]


def test_without_an_exchange_before_fc6_each_tower_gathers_its_own_maps():
    config = get_config()
    config.model.width, config.model.num_classes = 1.0, 1000
    config.model.exchange = ("conv3", "fc7", "fc8")
    net = resolve(config.model, 224)
    assert ("fc6", BATCH, 4, (6, 6, 128), True, 2) in gathers_of(net, HYBRID)
    assert ("fc6", BATCH, 2, (6, 6, 128), True, 1) in gathers_of(net, HYBRID_BOTH)


# --- every net on every layout ---------------------------------------------------------------


def all_gathers(jaxpr):
    """Yields (mesh axis, result's shape) of each all-gather in a jaxpr and in those it calls."""
    for equation in jaxpr.eqns:
        if equation.primitive.name.startswith("all_gather"):
            (axis,) = equation.params["axis_name"]
            yield axis, equation.outvars[0].aval.shape
        for inner in jaxprs_in_params(equation.params):
            yield from all_gathers(inner)


def traced(net, layout):
    """Returns the model's jaxpr in training on these devices, and its outputs' shapes on one."""
    devices, per_device, shapes = make_devices(layout), on_devices(AlexNet(net), layout), {}

    def logits(params, images, key):
        rows = example_indices(len(images), layout)
        result, ends = per_device.apply(
            {"params": params}, images, True, rows, rngs={"dropout": key}
        )
        shapes.update({name: x.shape for name, x in ends.items()})
        return result

    images = jax.ShapeDtypeStruct((BATCH_SIZE, net.crop, net.crop, 3), jnp.float32)
    params = jax.eval_shape(AlexNet(net).init, jax.random.key(0), images)["params"]
    rows = REPLICATED if layout.hybrid else batch_spec(layout)
    specs = (param_specs(net, layout), batch_spec(layout), REPLICATED)
    function = devices.compile(logits, specs, rows)
    return jax.make_jaxpr(function)(params, images, jax.random.key(0)).jaxpr, shapes


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_the_model_gathers_what_its_placement_lists_and_computes_its_share(name, layout):
    net = published(name)
    jaxpr, shapes = traced(net, layout)
    expected = Counter()
    for placed in place(net, layout):
        for gather in placed.gathers:
            if gather.devices > 1:
                array = gather.array(BATCH_SIZE, layout)
                expected[AXES[gather.of], array] += gather.copies
    drops = any("drop" in placed.shape.layer.name for placed in place(net, layout))
    if layout.hybrid and drops:
        expected[DATA, (BATCH_SIZE,)] += 1  # the numbers of the examples, for the masks
    assert Counter(all_gathers(jaxpr)) == expected
    assert {name: math.prod(shape) for name, shape in shapes.items()} == {
        placed.shape.layer.name: placed.outputs(BATCH_SIZE) for placed in place(net, layout)
    }


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_a_device_holds_the_share_of_each_parameter_that_its_spec_says(name, layout):
    devices, net = make_devices(layout), published(name)
    specs = param_specs(net, layout)
    for layer, placed in with_parameters(net, layout).items():
        assert specs[layer].keys() == placed.shape.arrays.keys()
        for part, shape in placed.shape.arrays.items():
            shard = devices.sharding(specs[layer][part]).shard_shape(shape)
            assert placed.shard_shape(shape) == shard, (layer, part)


def test_shares_of_the_papers_parameters_by_hand():
    def held(layout):
        shapes = with_parameters(published("alexnet"), layout)
        return {
            name: math.prod(placed.shard_shape(placed.shape.kernel))
            for name, placed in shapes.items()
            if name in ("conv1", "fc6", "fc8")
        }

    assert held(ONE) == {"conv1": 34_848, "fc6": 37_748_736, "fc8": 4_096_000}
    assert held(DATA_ONLY) == held(ONE)
    assert held(TOWER_ONLY) == {"conv1": 17_424, "fc6": 18_874_368, "fc8": 4_096_000}
    assert held(HYBRID) == {"conv1": 34_848, "fc6": 9_437_184, "fc8": 4_096_000}
    assert held(HYBRID_BOTH) == {"conv1": 17_424, "fc6": 9_437_184, "fc8": 4_096_000}


# --- values ----------------------------------------------------------------------------------


def shallow():
    """Returns a two-tower net with both dropout layers that compiles quickly."""
    config = get_config()
    config.model.width, config.model.num_classes = 1 / 16, 10
    config.model.without = ("norm1", "conv2", "norm2", "pool2", "conv3", "conv4", "conv5")
    return resolve(config.model, 64)


def random_params(net):
    """Draws kernels and biases, but sets those of fc6 and fc7 so that each unit's output is 1."""
    images = jax.ShapeDtypeStruct((1, net.crop, net.crop, 3), jnp.float32)
    params = jax.eval_shape(AlexNet(net).init, jax.random.key(0), images)["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)
    for layer in ("fc6", "fc7"):
        kernel, bias = params[layer]["kernel"], params[layer]["bias"]
        params[layer] = {"kernel": 0 * kernel, "bias": 0 * bias + 1}
    return params


@pytest.fixture(scope="module")
def masks():
    """Returns a function from a layout to the masks of drop6 and drop7 for eight images."""
    net = shallow()
    params = random_params(net)
    images = np.random.default_rng(1).normal(0, 60, (8, 64, 64, 3)).astype(np.float32)

    def of(layout):
        per_device = on_devices(AlexNet(net), layout)

        def drop(params, images, key):
            rows = example_indices(len(images), layout)
            rngs = {"dropout": key}
            _, ends = per_device.apply({"params": params}, images, True, rows, rngs=rngs)
            return ends["drop6"], ends["drop7"]

        inputs = (param_specs(net, layout), batch_spec(layout), REPLICATED)
        # One device has some rows of all its towers' units, or in the hybrid scheme all rows of
        # some units of each tower.
        units = jax.P(None, (TOWER, DATA)) if layout.hybrid else jax.P(DATA, TOWER)
        run = make_devices(layout).compile(drop, inputs, (units, units))
        return np.asarray(run(params, images, jax.random.key(3)))

    return of


@pytest.mark.parametrize(
    "layout",
    [DATA_ONLY, TOWER_ONLY, BOTH, HYBRID_BOTH, Layout(data=4, tower=2, hybrid=True)],
    ids=str,
)
def test_the_same_units_are_dropped_on_any_layout(layout, masks):
    alone = masks(ONE)
    assert set(np.unique(alone)) == {0, 1}
    assert alone.shape == (2, 8, 256)
    np.testing.assert_array_equal(masks(layout), alone)


@pytest.mark.parametrize("layout", [ONE, DATA_ONLY, BOTH, HYBRID_BOTH], ids=str)
def test_the_global_norm_is_numpys_of_all_parameters(layout):
    net = shallow()
    tree, specs = random_params(net), param_specs(net, layout)
    run = make_devices(layout).compile(
        lambda tree: global_norm(tree, net, layout), (specs,), REPLICATED
    )
    expected = np.sqrt(sum((x.astype(np.float64) ** 2).sum() for x in jax.tree.leaves(tree)))
    assert float(run(tree)) == pytest.approx(expected, rel=1e-6)
