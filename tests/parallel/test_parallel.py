"""The same training on any number of devices, and what they send each other in it."""

import re
from functools import cache

import jax
import numpy as np
import pytest
from commands import SMALL, error_line, lines, run
from devices import assert_same, prepared, small, trained

from alexnet_jax.nets.model import build_model
from alexnet_jax.parallel import REPLICATED, Layout, layout_of, make_devices
from alexnet_jax.train.session import abstract_batch, abstract_session

STEPS = 20
LAYOUTS = [
    {"tower": 2},
    pytest.param({"data": 2, "tower": 2}, marks=pytest.mark.soak),
    pytest.param({"data": 4, "scheme": "hybrid"}, marks=pytest.mark.slow),
    pytest.param({"data": 2}, marks=pytest.mark.soak),
    pytest.param({"data": 4, "tower": 2}, marks=pytest.mark.slow),
    pytest.param({"data": 2, "tower": 2, "scheme": "hybrid"}, marks=pytest.mark.slow),
]
COLLECTIVE = re.compile(
    r"= (?P<shape>\(.*?\)|\S+) (?P<kind>all-gather|all-reduce|reduce-scatter|all-to-all|"
    r"collective-permute)(?:-start)?\("
)


@pytest.fixture(scope="module")
def alone():
    return trained(small(), STEPS)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_any_layout_trains_the_same_net(layout, alone):
    assert_same(trained(small(**layout), STEPS), alone)


@pytest.mark.slow
def test_other_kernels_or_losses_are_not_taken_for_the_same_run(alone):
    """The comparison above fails for towers in each other's place and for losses 0.01 % off."""
    exchanged = {name: leaf[::-1] if "conv" in name else leaf for name, leaf in alone[0].items()}
    with pytest.raises(AssertionError):
        assert_same((exchanged, alone[1]), alone)
    with pytest.raises(AssertionError):
        assert_same((alone[0], np.multiply(alone[1], 1 + 1e-4)), alone)


@cache
def four_towers(**layout):
    """Trains a net of four towers for five steps."""
    config = small(**layout)
    config.model.towers, config.model.width = 4, 0.125
    return trained(config, 5)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [{"tower": 2}, {"data": 2, "tower": 4}], ids=str)
def test_four_towers_on_one_two_or_four_devices(layout):
    assert_same(four_towers(**layout), four_towers())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layout"),
    [
        pytest.param("alexnet_conv6", {"tower": 2}, marks=pytest.mark.soak),
        ("alexnet_original", {"tower": 2}),
        ("one_weird_trick", {"data": 4, "scheme": "hybrid"}),
    ],
)
def test_other_nets_train_the_same(name, layout):
    """One step: later a tie in a max-pool can fall the other way by the last bit of a float."""
    assert_same(trained(small(name, **layout), 1), trained(small(name), 1))


def collectives(layout, name="alexnet"):
    """Returns kind and element counts of every collective in the compiled step, tuples opened."""
    text = abstract_session(small(name, **layout)).lower().compile().as_text()
    found = []
    for match in COLLECTIVE.finditer(text):
        shapes = re.findall(r"\w+\[([\d,]*)\]", match["shape"])
        sizes = [int(np.prod([int(x) for x in shape.split(",") if x])) for shape in shapes]
        found.append((match["kind"], sizes))
    return found


@pytest.mark.parametrize(
    ("name", "exchanges"),
    [("alexnet", 4), pytest.param("alexnet_conv6", 5, marks=pytest.mark.slow)],
)
def test_towers_talk_only_where_the_paper_draws_it(name, exchanges):
    """Activations before conv3, fc6, fc7, fc8 (and conv6), their gradients, and single numbers.

    Every device computes fc8 of the same input, so no gradient returns from it.
    """
    found = collectives({"tower": 2}, name)
    assert sum(kind == "all-gather" for kind, _ in found) == exchanges
    assert sum(kind == "reduce-scatter" for kind, _ in found) == exchanges - 1
    others = [sizes for kind, sizes in found if kind not in ("all-gather", "reduce-scatter")]
    assert all(kind != "all-to-all" for kind, _ in found)
    assert max(max(sizes) for sizes in others) <= 32  # the batch


@pytest.mark.slow
def test_data_parallelism_reduces_each_weight_once():
    found = collectives({"data": 2})
    assert {kind for kind, _ in found} == {"all-reduce"}
    model = build_model(small())
    params = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))
    weights = sum(x.size for x in jax.tree.leaves(params))
    # besides the weights: examples, loss, errors
    assert sum(sum(sizes) for _, sizes in found) == weights + 3


@pytest.mark.slow
def test_hybrid_reduces_no_dense_weight():
    """Only convolutions (and a sum) are reduced; fc6 alone has more weights than all of them."""
    found = collectives({"data": 4, "scheme": "hybrid"})
    reduced = sum(sum(sizes) for kind, sizes in found if kind == "all-reduce")
    params = abstract_session(small()).initial_state.eval_shape().params
    convolutions = sum(
        x.size
        for name, leaves in params.items()
        if name.startswith("conv")
        for x in jax.tree.leaves(leaves)
    )
    assert convolutions <= reduced <= convolutions + 3


def test_each_device_holds_half_of_the_parameters():
    """And of the velocities; fc8 aside."""
    _, state, _ = prepared(small(tower=2))
    for tree in (state.params, state.opt_state.velocity):
        for name, leaves in tree.items():
            for leaf in leaves.values():
                part = leaf.addressable_shards[0].data.size
                assert part == (leaf.size if name == "fc8" else leaf.size / 2)


@pytest.mark.slow
def test_a_checkpoint_moves_between_layouts(tmp_path):
    """One device → two towers → two towers by two: the run goes on as if nothing had changed."""
    steps = "--config.train.steps"
    run("main", *SMALL, f"{steps}=12", f"--workdir={tmp_path}/one")
    moves = [(4, 1, 1), (8, 1, 2), (12, 2, 2)]
    for until, data, tower in moves:
        done = run(
            "main", *SMALL, f"{steps}={until}", f"--workdir={tmp_path}/moved",
            f"--config.parallel.data={data}", f"--config.parallel.tower={tower}",
            env={"JAX_NUM_CPU_DEVICES": "4"},
        )  # fmt: skip
        assert ("not used: " in done.stdout) == (data * tower < 4)
    one, moved = (
        [x["train/loss"] for x in lines(tmp_path / name) if "train/loss" in x]
        for name in ("one", "moved")
    )
    assert len(one) == 12
    np.testing.assert_allclose(one, moved, rtol=1e-4)


def test_more_devices_than_there_are_is_one_line(tmp_path):
    arguments = (*SMALL, "--config.parallel.tower=2", f"--workdir={tmp_path}/w")
    assert "needs 2 devices, but there are 1" in error_line(run("main", *arguments, code=2))
    assert not (tmp_path / "w").exists()


def test_a_scheme_that_does_not_exist_is_not_the_plain_one():
    """The flags are checked before; this is a config that Python made."""
    with pytest.raises(KeyError, match="hybird"):
        layout_of(small(data=2, scheme="hybird").parallel)


def test_the_step_lowers_for_cuda_without_one():
    """The full-size two-tower step, exported for GPUs: no call that only a CPU could answer."""
    config = small(tower=2)
    config.model.width, config.data.crop_size, config.data.image_size = 1.0, 224, 256
    config.model.num_classes, config.data.batch_size = 1000, 4
    session = abstract_session(config)
    state, batch = session.initial_state.eval_shape(), abstract_batch(config, session.devices)
    step = jax.export.export(session.compiled_step, platforms=["cuda"])
    exported = step(state, batch, session.stats)
    assert exported.platforms == ("cuda",)
    assert exported.nr_devices == 2
    text = exported.mlir_module()
    calls = set(re.findall(r"custom_call @(\w+)", text))
    assert calls <= {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}, calls
    assert "cpu" not in text.lower()


def test_a_cpu_does_one_step_at_a_time():
    """The result is ready when the call returns, so that its memory serves the next call."""
    devices = make_devices(Layout())
    square = devices.compile(lambda x: x @ x, REPLICATED, REPLICATED)
    x = jax.numpy.eye(2000) * 2
    result = devices.one_at_a_time(square)(x)
    assert result.is_ready()
    np.testing.assert_array_equal(result, 4 * np.eye(2000))
