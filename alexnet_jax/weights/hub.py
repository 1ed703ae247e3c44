"""A net as a folder in the layout of Hugging Face's model hub.

    config.json          the run's config, and the class names as id2label
    model.safetensors    LAYER.kernel, LAYER.bias and so on in our shapes, and input.mean
    README.md            the model card

Unlike the layouts of other programs it holds every kind of layer, the net's input and its crop.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from safetensors.numpy import save

from alexnet_jax.errors import UserError
from alexnet_jax.nets.shapes import array_shapes
from alexnet_jax.runs.workdir import CONFIG, read_config
from alexnet_jax.weights import readers
from alexnet_jax.weights.layouts import Arrays, Params
from alexnet_jax.weights.model_card import model_card
from alexnet_jax.weights.trained_net import TrainedNet

WEIGHTS, CARD, MEAN = "model.safetensors", "README.md", "input.mean"
HUB_KEYS = ("library_name", "model_type", "id2label")  # in config.json beside the run's config


def hub_files(
    trained: TrainedNet, evaluation: Mapping[str, Any], license_name: str
) -> dict[str, bytes]:
    """Returns the contents of the folder's files by their names.

    Args:
      trained: the net.
      evaluation: the content of eval.json for this checkpoint; {} if it was not evaluated.
      license_name: of the weights, an identifier that the hub knows, such as mit.
    """
    config: dict[str, Any] = {"library_name": "alexnet_jax", "model_type": "alexnet_jax"}
    config["id2label"] = {str(i): name for i, name in enumerate(trained.class_names)}
    config |= trained.config.to_dict()
    tensors = {
        f"{layer}.{name}": np.ascontiguousarray(array, np.float32)
        for layer, arrays in trained.params.items()
        for name, array in arrays.items()
    }
    # The mean image belongs to the net: without it the same weights give other logits.
    tensors[MEAN] = np.ascontiguousarray(trained.mean, np.float32)
    return {
        CONFIG: (json.dumps(config, indent=2) + "\n").encode(),
        WEIGHTS: save(tensors, metadata={"format": "np"}),
        CARD: model_card(trained.config, trained.params, evaluation, license_name).encode(),
    }


def is_hub(directory: Path) -> bool:
    """True if a folder is in the layout of the hub."""
    return (directory / WEIGHTS).is_file()


def load_hub(directory: Path) -> TrainedNet:
    """Reads a folder in the layout of the hub.

    Raises:
      UserError: config.json or model.safetensors is missing, damaged, or of another net.
    """
    from alexnet_jax.nets.variants import resolve  # imports jax

    config = read_config(directory)
    names = label_names(config)
    for key in HUB_KEYS:  # the hub reads these keys; they are no settings of the run
        if key in config:
            del config[key]
    net = resolve(config.model, config.data.crop_size)
    tensors = readers.read(directory / WEIGHTS).arrays
    expected = {".".join(names): sides for names, sides in array_shapes(net).items()}
    _check_numbers(directory / WEIGHTS, tensors)
    mean = tensors.pop(MEAN, np.zeros(0))  # a shape that is refused below
    _check_shapes(directory / WEIGHTS, {name: x.shape for name, x in tensors.items()}, expected)
    if mean.shape not in ((3,), (net.crop, net.crop, 3)):
        raise UserError(f"{directory / WEIGHTS} has no {MEAN} of this net; export it again")
    params: Params = {}
    for name in expected:
        layer, _, array = name.rpartition(".")
        params.setdefault(layer, {})[array] = tensors[name]
    return TrainedNet(net, params, config, mean, names)


def label_names(config: ConfigDict) -> tuple[str, ...]:
    """Returns the class names in a hub's config.json, in the order of the outputs.

    Raises UserError if it has names, but not one for each output.
    """
    labels = config.id2label if "id2label" in config else ConfigDict()
    # The keys of JSON are strings and may stand in any order.
    numbers = [str(i) for i in range(config.model.num_classes)]
    if not isinstance(labels, ConfigDict) or (labels and set(labels) != set(numbers)):
        raise UserError(
            f"id2label in {CONFIG} has to name the classes 0 to {numbers[-1]}, and no others; "
            "correct it, or export the net again"
        )
    return tuple(str(labels[number]) for number in numbers) if labels else ()


def _check_numbers(file: Path, tensors: Arrays) -> None:
    """Raises UserError unless every tensor holds finite floats: no training saves others."""
    for name, x in tensors.items():
        if x.dtype.kind != "f" or not np.isfinite(x).all():
            raise UserError(f"{name} in {file} is not all finite floats; export it again")


def _check_shapes(file: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            raise UserError(
                f"{file} is not of the net in {CONFIG}: {name} is {found.get(name, 'missing')} "
                f"instead of {expected.get(name, 'absent')}; export it again"
            )
