"""The restoring of a checkpoint as a model that can be applied."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from alexnet_jax.nets.model import AlexNet, build_model
from alexnet_jax.nets.placement import param_specs
from alexnet_jax.parallel import Devices, Layout, make_devices
from alexnet_jax.preprocess import InputStats
from alexnet_jax.runs.checkpoint import restore_params
from alexnet_jax.runs.workdir import check_restorable, read_config


def abstract_params(model: AlexNet, devices: Devices) -> Any:
    """Returns the model's parameters as abstract arrays: shapes, dtypes and shardings."""

    def params() -> Any:
        # Any batch size will do: no parameter's shape depends on it.
        images = jnp.zeros((1, model.net.crop, model.net.crop, 3))
        # Traced for its shapes and never run.
        return model.init(jax.random.key(0), images)["params"]

    # Shapes with shardings, so that each device reads only its own part from the disk.
    return devices.init(params, param_specs(model.net, devices.layout)).eval_shape()


def load(directory: str | Path) -> tuple[AlexNet, dict[str, Any], ConfigDict]:
    """Loads a trained net.

    Args:
      directory: a workdir (its newest checkpoint) or workdir/checkpoints/STEP.

    Returns:
      The model, its variables and its config. variables["params"] are the parameters, and
      variables["input"] holds "mean", float32 [crop, crop, 3] or [3], and "scale", float32 [3]: the
      net's input is (pixels − mean) × scale for RGB pixels of 0–255.

    Raises:
      UserError: there is no checkpoint, or its parameters do not fit its config.
    """
    return load_on(Path(directory).expanduser(), make_devices(Layout()))


def load_on(path: Path, devices: Devices) -> tuple[AlexNet, dict[str, Any], ConfigDict]:
    """Loads a trained net as `load` does, with the parameters sharded over the devices."""
    check_restorable(path)
    config = read_config(path)
    model = build_model(config)
    restored = restore_params(path, abstract_params(model, devices))
    scale = jnp.asarray(config.data.input_scale, jnp.float32)
    stats = {"mean": jnp.asarray(restored.mean), "scale": scale}
    return model, {"params": restored.params, "input": stats}, config


def restored_stats(variables: dict[str, Any]) -> InputStats:
    """Returns the input normalisation of a loaded net."""
    return InputStats(**variables["input"])
