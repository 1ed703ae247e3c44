"""A trained net, applied to the user's pictures batch by batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alexnet_jax.evaluate import make_predict, make_view_probabilities
from alexnet_jax.nets.model import AlexNet
from alexnet_jax.parallel import Devices, Layout, make_devices
from alexnet_jax.predict.pictures import read_batches
from alexnet_jax.preprocess import VIEWS, InputStats, view
from alexnet_jax.runs.restore import restored_stats
from alexnet_jax.weights.loading import class_names, load_onto

Compute = Callable[[np.ndarray], np.ndarray]  # uint8 [N, S, S, 3] → float [N, …]


@dataclass(frozen=True)
class LoadedNet:
    """A net with its parameters and all that its input and outputs mean.

    Attributes:
      model: the net.
      params: its parameters, on the device.
      stats: mean and scale of its input.
      devices: the one device that it is on.
      side: of the stored pictures that it was trained on, in pixels.
      class_names: in the order of its outputs.
    """

    model: AlexNet
    params: Any
    stats: InputStats
    devices: Devices
    side: int
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Output:
    """A net's output for one picture file.

    Attributes:
      path: of the file.
      values: float [classes] or the shape of a layer; None if the file cannot be used.
      error: the reason, for a person; empty if there is none.
    """

    path: Path
    values: np.ndarray | None
    error: str = ""


def load_net(path: Path, names: tuple[str, ...] = ()) -> LoadedNet:
    """Loads a trained net onto the first device.

    Args:
      path: a workdir, workdir/checkpoints/STEP, or a folder that `export` wrote for a model hub.
      names: of the classes; empty for those of the data set that it was trained on. If they are
        not known, the classes are called by their numbers.
    """
    devices = make_devices(Layout())
    model, variables, config = load_onto(path, devices)
    numbers = tuple(map(str, range(config.model.num_classes)))
    return LoadedNet(
        model=model,
        params=variables["params"],
        stats=restored_stats(variables),
        devices=devices,
        side=config.data.image_size,
        class_names=names or class_names(path) or numbers,
    )


def make_classifier(net: LoadedNet, views: int) -> Compute:
    """Returns the function from stored pictures to probabilities, float32 [N, classes].

    They are averaged over 1 or 10 views, as evaluation does.
    """
    view_probabilities = make_view_probabilities(net.model, net.devices)
    predict = make_predict(view_probabilities, net.params, net.stats, views)
    return lambda images: np.exp(predict(images)).astype(np.float32)


def make_feature_reader(net: LoadedNet, layer: str) -> Compute:
    """Returns the function from stored pictures to a layer's output, float32 [N, …].

    The net sees the centre of each picture.
    """

    @jax.jit
    def features(params: Any, images: jax.Array, stats: InputStats) -> jax.Array:
        # params and stats are arguments: as constants they would be part of the compiled program.
        x = view(images, stats, net.model.net.crop, *VIEWS[1][0])
        return net.model.apply({"params": params}, x)[1][layer]

    return lambda images: np.asarray(features(net.params, images, net.stats))


def compute_outputs(
    compute: Compute, net: LoadedNet, paths: Sequence[Path], batch_size: int
) -> list[Output]:
    """Returns the output for every file, in the order of the paths."""
    outputs = []
    for pictures, pixels in read_batches(paths, net.side, batch_size):
        values = compute(net.devices.shard(pixels, len(pixels)))
        # The last batch is filled up with black rows.
        for picture, row in zip(pictures, values, strict=False):
            outputs.append(Output(picture.path, None if picture.error else row, picture.error))
    return outputs
