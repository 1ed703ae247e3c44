"""Trains a small net on forced CPU devices in this process, as train.py does."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import parallel, train
from alexnet_jax.data import open_dataset
from alexnet_jax.data.pipeline import training_batches
from alexnet_jax.nets.model import build_model
from alexnet_jax.preprocess import Pixels, make_pixels
from configs import base

EPOCH_STEPS, TOTAL_STEPS = 41, 100


def small(name: str = "alexnet", **layout: Any) -> ConfigDict:
    """A sixteenth of the width, with dropout, crops, flips and colour noise on."""
    config = base.get_config()
    config.model.name, config.model.width, config.model.num_classes = name, 1 / 16, 10
    config.data.augment.flip, config.data.augment.colour = True, "code"
    for key, value in layout.items():
        config.parallel[key] = value
    return config


def prepared(config: ConfigDict) -> tuple[Any, Any, Any]:
    """The compiled step, the state it starts from, and an endless iterator of its batches."""
    dataset, model = open_dataset(config.data), build_model(config)
    layout = parallel.layout_of(config.parallel)
    mesh = parallel.make_mesh(layout)
    make = train.make_initial_state(config, model)
    state = parallel.born_on(make, mesh, train.state_specs(model, layout))()
    step = train.compiled_step(config, model, mesh, EPOCH_STEPS, TOTAL_STEPS)
    pixels = parallel.everywhere(make_pixels(config.data, dataset), mesh)
    size = config.data.batch_size
    batches = training_batches(
        dataset.splits["train"], size, seed=0, first_step=0, device_bytes=10**9
    )
    on_mesh = ((parallel.put_batch(batch, mesh, layout, size), pixels) for batch in batches)
    return step, state, on_mesh


def trained(config: ConfigDict, steps: int) -> tuple[dict[str, np.ndarray], list[float]]:
    """The parameters by name after some steps, and every step's loss."""
    step, state, batches = prepared(config)
    losses = []
    for _ in range(steps):
        state, scalars = step(state, *next(batches))
        losses.append(float(scalars["loss"]))
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(state.params))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}, losses


def assert_same(
    ours: tuple[dict[str, np.ndarray], list[float]],
    theirs: tuple[dict[str, np.ndarray], list[float]],
) -> None:
    """Losses and every parameter's norm of difference within float32 rounding."""
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5)
    worst = 0.0
    for name, wanted in theirs[0].items():
        difference = np.linalg.norm(ours[0][name] - wanted) / np.linalg.norm(wanted)
        worst = max(worst, float(difference))
    print(f"largest relative difference of a parameter: {worst:.1e}")
    assert worst < 1e-4


def abstract(config: ConfigDict) -> tuple[Any, ...]:
    """The compiled step and the shapes of what it takes, without making any of it."""
    model, layout = build_model(config), parallel.layout_of(config.parallel)
    mesh = parallel.make_mesh(layout)
    make = train.make_initial_state(config, model)
    state = parallel.born_on(make, mesh, train.state_specs(model, layout)).eval_shape()
    step = train.compiled_step(config, model, mesh, 100, 1000)
    size, side, crop = config.data.batch_size, config.data.image_size, config.data.crop_size
    shape = jax.ShapeDtypeStruct
    batch = {
        "image": shape((size, side, side, 3), np.uint8),
        "label": shape((size,), np.int32),
        "mask": shape((size,), np.float32),
    }
    pixels = Pixels(*(shape(x, np.float32) for x in ((crop, crop, 3), (3,), (3, 3))))
    return step, state, pixels, batch
