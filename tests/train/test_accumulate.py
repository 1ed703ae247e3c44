"""A batch worked through in parts: the same training in less memory."""

from functools import cache

import jax
import numpy as np
import pytest
from devices import assert_same, small, trained

from alexnet_jax.data import open_dataset
from alexnet_jax.train.session import open_session

LAYOUTS = [
    pytest.param({"data": 4}, marks=pytest.mark.soak),
    pytest.param({"tower": 2}, marks=pytest.mark.soak),
    {"data": 2, "tower": 2},
    pytest.param({"data": 4, "scheme": "hybrid"}, marks=pytest.mark.soak),
    {"data": 2, "tower": 2, "scheme": "hybrid"},
]


def in_parts(number, **layout):
    config = small(**layout)
    config.train.accumulate_steps = number
    return config


@cache
def compiled(parts):
    """Returns the step of a shallow net, its initial state, and a batch with statistics.

    Of the batch's 32 images 5 are padding.
    """
    config = in_parts(parts)
    config.model.without = ("conv3", "conv4", "conv5", "fc7")
    dataset = open_dataset(config.data)
    session = open_session(config, dataset)
    state, batch = session.initial_state(), next(session.batches(dataset.splits["train"], 0))
    batch["mask"] = np.repeat(np.float32([1, 0]), [27, 5])
    step = session.compiled_step.lower(state, batch, session.stats).compile()
    return step, state, (batch, session.stats)


def after_a_step(parts):
    step, state, arguments = compiled(parts)
    state = jax.tree.map(lambda x: x + 0, state)  # the step takes its memory
    return jax.device_get(step(state, *arguments))


@pytest.mark.slow
@pytest.mark.parametrize("parts", [2, 8])
def test_a_step_in_parts_is_the_same_step(parts):
    """Compares metrics and velocities, with everything random switched on."""
    (undivided, scalars), (ours, our_scalars) = after_a_step(1), after_a_step(parts)
    assert scalars["examples"] == 27
    assert our_scalars.keys() == scalars.keys()
    for name, value in scalars.items():
        np.testing.assert_allclose(our_scalars[name], value, rtol=1e-5, err_msg=name)
    one, other = (jax.tree.leaves(x.opt_state) for x in (undivided, ours))
    for a, b in zip(one, other, strict=True):
        assert np.linalg.norm(a - b) < 1e-5 * np.linalg.norm(a)


@pytest.mark.slow
def test_parts_take_less_memory():
    """By the memory that XLA reserves for temporaries: nearly all are activations in this net."""
    undivided, parts = (compiled(n)[0].memory_analysis().temp_size_in_bytes for n in (1, 2))
    print(undivided, parts)
    assert parts < 0.8 * undivided


@cache
def undivided():
    return trained(small(), 10)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_parts_on_many_devices_train_the_same_net(layout):
    assert_same(trained(in_parts(4, **layout), 10), undivided())
