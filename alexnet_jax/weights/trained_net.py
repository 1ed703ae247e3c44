"""A trained net outside of a run, as `export` takes it and `hub.load_hub` returns it."""

from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.nets.spec import Net
from alexnet_jax.weights.layouts import Params


@dataclass(frozen=True)
class TrainedNet:
    """A net with its parameters and all that is needed to apply it.

    Attributes:
      net: resolved.
      params: {layer: {"kernel", "bias"}}, float32.
      config: of the run, resolved.
      mean: float32 [crop, crop, 3] or [3], RGB of 0–255; the net's input is
        (pixels − mean) × config.data.input_scale.
      class_names: in the order of the outputs; empty if they are not known.
    """

    net: Net
    params: Params
    config: ConfigDict
    mean: np.ndarray
    class_names: tuple[str, ...]
