"""The loading of a trained net from a run's checkpoint or a folder in the hub's layout."""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from alexnet_jax.nets.model import AlexNet, build_model
from alexnet_jax.parallel import Devices, Layout, make_devices
from alexnet_jax.runs.record import read_record
from alexnet_jax.runs.restore import load_on
from alexnet_jax.runs.workdir import read_config
from alexnet_jax.weights.hub import is_hub, label_names, load_hub
from alexnet_jax.weights.untrained import untrained_warning


def load(directory: str | Path) -> tuple[AlexNet, dict[str, Any], ConfigDict]:
    """Loads a trained net; warns in a line if its weights look drawn at random.

    Args:
      directory: a workdir (its newest checkpoint), workdir/checkpoints/STEP, or a folder that
        alexnet_jax.export wrote in the hub's layout.

    Returns:
      The model, its variables and its config. variables["params"] are the parameters, and
      variables["input"] holds "mean", float32 [crop, crop, 3] or [3], and "scale", float32 [3]: the
      net's input is (pixels − mean) × scale for RGB pixels of 0–255.

    Raises:
      UserError: there is no checkpoint, or its parameters do not fit its config.
    """
    return load_onto(Path(directory).expanduser(), make_devices(Layout()))


def load_onto(path: Path, devices: Devices) -> tuple[AlexNet, dict[str, Any], ConfigDict]:
    """Loads a trained net as `load` does, onto `devices`, which have to be a single one."""
    model, variables, config = _from_hub(path) if is_hub(path) else load_on(path, devices)
    warning = untrained_warning(jax.device_get(variables["params"]))
    if warning:
        print(warning, file=sys.stderr)  # stdout is the calling program's
    return model, variables, config


def class_names(path: Path) -> tuple[str, ...]:
    """Returns the class names of a trained net in the order of its outputs.

    They are the names of the data set that it was trained on. Converted weights have none: the
    result is ().
    """
    if is_hub(path):
        return label_names(read_config(path))
    data = read_record(path).data
    return data.class_names if data else ()


def _from_hub(path: Path) -> tuple[AlexNet, dict[str, Any], ConfigDict]:
    trained = load_hub(path)
    scale = jnp.asarray(trained.config.data.input_scale, jnp.float32)
    stats = {"mean": jnp.asarray(trained.mean), "scale": scale}
    params = jax.tree.map(jnp.asarray, trained.params)
    return build_model(trained.config), {"params": params, "input": stats}, trained.config
