"""From a checkpoint on disk to a model that can be applied."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from alexnet_jax import parallel
from alexnet_jax.nets.model import AlexNet, build_model
from alexnet_jax.preprocess import Pixels
from alexnet_jax.runs.checkpoint import restore_params
from alexnet_jax.runs.workdir import check_restorable, read_config


def abstract_params(model: AlexNet, mesh: parallel.Mesh, layout: parallel.Layout) -> Any:
    """Shapes, dtypes and shardings of the model's parameters."""

    def params() -> Any:
        images = jnp.zeros((1, model.net.crop, model.net.crop, 3))
        return model.init(jax.random.key(0), images)["params"]

    return parallel.born_on(params, mesh, parallel.param_specs(model.net, layout)).eval_shape()


def load(directory: str | Path) -> tuple[AlexNet, dict[str, Any], ConfigDict]:
    """A trained net.

    Args:
      directory: a workdir (its newest checkpoint) or workdir/checkpoints/STEP.

    Returns:
      The model, its variables and its config. `variables["params"]` are the parameters;
      `variables["input"]` holds the mean that was subtracted in training ([crop, crop, 3] or [3],
      0–255), so that `model.apply(variables, (pixels − mean) × config.data.input_scale)` is right.

    Raises:
      UserError: there is no checkpoint, or its parameters do not fit its config.
    """
    layout = parallel.Layout()
    return load_on(Path(directory), parallel.make_mesh(layout), layout)


def load_on(
    path: Path, mesh: parallel.Mesh, layout: parallel.Layout
) -> tuple[AlexNet, dict[str, Any], ConfigDict]:
    """As `load`, with the parameters laid over the mesh."""
    check_restorable(path)
    config = read_config(path)
    model = build_model(config)
    restored = restore_params(path, abstract_params(model, mesh, layout))
    variables = {"params": restored.params, "input": {"mean": jnp.asarray(restored.mean)}}
    return model, variables, config


def input_pixels(variables: dict[str, Any], config: ConfigDict) -> Pixels:
    """How a loaded net wants its pixels."""
    return Pixels(variables["input"]["mean"], jnp.asarray(config.data.input_scale, jnp.float32))
