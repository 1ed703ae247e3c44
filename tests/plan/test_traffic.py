"""The expected collectives of a step against those of the compiled program."""

import pytest
from devices import small

from alexnet_jax.nets.shapes import without_statistics
from alexnet_jax.nets.variants import resolve
from alexnet_jax.parallel import layout_of
from alexnet_jax.plan.hlo import Transfer, read_transfers
from alexnet_jax.plan.memory import parameter_bytes
from alexnet_jax.plan.record import communication, local_bytes
from alexnet_jax.plan.report import communication_text
from alexnet_jax.plan.traffic import agree, expected_transfers, wire_bytes
from alexnet_jax.train.session import abstract_session

LAYOUTS = {
    "alone": ("alexnet", {}),
    "data": ("alexnet", {"data": 4}),
    "tower": ("alexnet", {"tower": 2}),
    "tower and data": ("alexnet", {"data": 4, "tower": 2}),
    "hybrid": ("alexnet", {"data": 4, "scheme": "hybrid"}),
    "hybrid towers": ("alexnet", {"data": 2, "tower": 2, "scheme": "hybrid"}),
    "hybrid one tower": ("one_weird_trick", {"data": 8, "scheme": "hybrid"}),
    "conv6": ("alexnet_conv6", {"tower": 2}),
    "no exchange before fc6": ("alexnet", {"data": 2, "tower": 2, "scheme": "hybrid"}),
    "four towers": ("alexnet", {"data": 2, "tower": 2}),
    "towers in parts": ("alexnet", {"data": 4, "tower": 2}),
    "hybrid in parts": ("alexnet", {"data": 4, "scheme": "hybrid"}),
    "batch norm": ("alexnet_batch_norm", {"data": 4, "tower": 2}),
    "hybrid batch norm": ("alexnet_batch_norm", {"data": 2, "tower": 2, "scheme": "hybrid"}),
    "unshared": ("cuda_convnet_11pct", {"data": 2, "scheme": "hybrid"}),
}


def config_of(name):
    net, layout = LAYOUTS[name]
    config = small(net, **layout)
    if name == "no exchange before fc6":
        config.model.exchange = ("conv3", "fc7", "fc8")
    if name == "four towers":
        config.model.towers, config.model.width = 4, 1 / 8
    if "in parts" in name:
        config.train.accumulate_steps = 2
    if name == "unshared":
        config.data.crop_size = 24
    return config


def compiled_step(config):
    """The compiled step and its abstract state.

    LLVM's optimisations come after the collectives are placed: without them it compiles faster.
    """
    session = abstract_session(config)
    quickly = {"xla_backend_optimization_level": 0}
    return session.lower().compile(compiler_options=quickly), session.initial_state.eval_shape()


def sizes(config):
    return (
        resolve(config.model, config.data.crop_size),
        layout_of(config.parallel),
        config.data.batch_size,
        config.train.accumulate_steps,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_arithmetic_equals_the_compiled_program(name):
    """Both have the same arrays in the same kinds of collectives, and so the same bytes."""
    config = config_of(name)
    compiled, state = compiled_step(config)
    found, expected = read_transfers(compiled.as_text()), expected_transfers(*sizes(config))
    assert agree(found, expected), communication_text(communication(found, expected))
    assert wire_bytes(found) == wire_bytes(expected)
    net, layout, *_ = sizes(config)
    assert local_bytes(state.params) == parameter_bytes(net, layout)
    assert local_bytes(state.opt_state) == local_bytes(without_statistics(state.params))


def test_a_difference_is_reported():
    found, expected = [Transfer("all-gather", 2, (4,))], [Transfer("all-reduce", 2, (4,))]
    assert not agree(found, expected)
    assert "NOT the same arrays" in communication_text(communication(found, expected))


def test_transfers_of_one_size_keep_their_names():
    """Two parts of a batch gather fc7's input twice and fc8's, of the same size, twice."""
    expected = [Transfer("all-gather", 2, (32, 64), what=x) for x in ("fc7", "fc8") * 2]
    found = [Transfer("all-gather", 2, (32, 64), what="jit(step)", name=f"ag.{i}") for i in "12345"]
    record = communication(found, expected)
    assert [(x["of"], x["number"], x["sent_bytes"]) for x in record["transfers"]] == [
        *(("fc7", 2, 8192.0), ("fc8", 2, 8192.0), ("jit(step)", 1, 4096.0))
    ]
    assert record["sent_bytes"] == 5 * 32 * 64 * 4 / 2 and record["collectives"] == 5
