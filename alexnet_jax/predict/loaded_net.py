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
    """A net with its parameters, the normalisation of its input and the names of its outputs.

    Attributes:
      model: the net.
      params: its parameters, on the device.
      stats: mean and scale of its input.
      devices: the one device that it is on.
      side: side in pixels of the stored pictures that it was trained on.
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
      values: probabilities, float [classes], or a layer's output; None if the file cannot be used.
      error: why the file cannot be used; "" if it can.
    """

    path: Path
    values: np.ndarray | None
    error: str = ""


def load_net(path: Path, names: tuple[str, ...] = ()) -> LoadedNet:
    """Loads a trained net onto the first device.

    Args:
      path: a workdir, workdir/checkpoints/STEP, or a folder that `export` wrote for a model hub.
      names: of the classes; () = those of the data set that it was trained on, or the classes'
        numbers if these names are not known.

    Raises:
      UserError: the net cannot be read.
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
    """Returns the function from uint8 [N, S, S, 3] to probabilities, float32 [N, classes].

    They are averaged over 1 or 10 views, as in an evaluation.
    """
    view_probabilities = make_view_probabilities(net.model, net.devices)
    predict = make_predict(view_probabilities, net.params, net.stats, views)
    # predict returns logarithms, as the loss of an evaluation needs them.
    return lambda images: np.exp(predict(images)).astype(np.float32)


def make_feature_reader(net: LoadedNet, layer: str) -> Compute:
    """Returns the function from uint8 [N, S, S, 3] to a layer's output, float32 [N, …].

    The net reads the centre of each picture.
    """

    @jax.jit
    def features(params: Any, images: jax.Array, stats: InputStats) -> jax.Array:
        # params and stats are arguments: as constants they would be part of the compiled program.
        # The centre, not mirrored: the only view of an evaluation in one view.
        x = view(images, stats, net.model.net.crop, *VIEWS[1][0])
        return net.model.apply({"params": params}, x)[1][layer]

    return lambda images: np.asarray(features(net.params, images, net.stats))


def compute_outputs(
    compute: Compute, net: LoadedNet, paths: Sequence[Path], batch_size: int
) -> list[Output]:
    """Returns the output for every file, in the order of the paths.

    Args:
      compute: of `make_classifier` or `make_feature_reader`.
      net: decides the size and the place of the pictures.
      paths: of picture files.
      batch_size: pictures that the net works on at once, at most.
    """
    outputs = []
    for pictures, pixels in read_batches(paths, net.side, batch_size):
        values = compute(net.devices.shard(pixels, len(pixels)))
        # The last batch is filled up with black rows.
        for picture, row in zip(pictures, values, strict=False):
            outputs.append(Output(picture.path, None if picture.error else row, picture.error))
    return outputs
