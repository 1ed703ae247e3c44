"""Trains a small net on forced CPU devices in this process, as the training loop does."""

import jax
import numpy as np

from alexnet_jax.data import open_dataset
from alexnet_jax.train.session import open_session
from configs import base


def small(name="alexnet", **layout):
    """Returns a config of a sixteenth of the width, with dropout, crops, flips and colour noise."""
    config = base.get_config()
    config.model.name, config.model.width, config.model.num_classes = name, 1 / 16, 10
    config.data.augment.flip, config.data.augment.colour = True, "code"
    for key, value in layout.items():
        config.parallel[key] = value
    return config


def prepared(config):
    """Returns the step, the state it starts from, and an endless iterator of its batches."""
    dataset = open_dataset(config.data)
    session = open_session(config, dataset)
    batches = session.batches(dataset.splits["train"], first_step=0)
    return session.make_step(), session.initial_state(), batches


def trained(config, steps):
    """Returns the parameters by name after some steps, and every step's loss."""
    state, losses = advanced(*prepared(config), steps)
    return by_name(state.params), losses


def advanced(step, state, batches, steps):
    """Returns the state after some steps, and every step's loss."""
    losses = []
    for _ in range(steps):
        state, scalars = step(state, next(batches))
        losses.append(float(scalars["loss"]))
    return state, losses


def by_name(tree):
    """Returns the arrays of a tree as NumPy arrays, by their paths in it."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(tree))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def assert_same(ours, theirs):
    """Compares losses, and the norm of each parameter's difference, to float32 rounding."""
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5)
    worst = 0.0
    for name, wanted in theirs[0].items():
        difference = np.linalg.norm(ours[0][name] - wanted) / np.linalg.norm(wanted)
        worst = max(worst, float(difference))
    print(f"largest relative difference of a parameter: {worst:.1e}")
    assert worst < 1e-4
