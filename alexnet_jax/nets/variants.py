"""From a published net and a config to the net that is built: the ablations of §4 and §5."""

import math
from dataclasses import replace

from ml_collections import ConfigDict

from alexnet_jax.errors import UserError
from alexnet_jax.nets.ops import ACTIVATIONS
from alexnet_jax.nets.shapes import WindowTooLarge, smallest_crop, walk
from alexnet_jax.nets.zoo import (
    NETS,
    NORMS,
    POOLS,
    WEIGHTED,
    Conv,
    Dense,
    Dropout,
    Exchange,
    Layer,
    Local,
    Net,
)


def weighted_layers(net: Net) -> dict[str, Conv | Local | Dense]:
    """The layers that have parameters, by name."""
    return {layer.name: layer for layer in net.layers if isinstance(layer, WEIGHTED)}


def _without(net: Net, names: tuple[str, ...]) -> Net:
    """The net without these layers."""
    present = [layer.name for layer in net.layers if not isinstance(layer, Exchange)]
    for name in names:
        if name not in present:
            raise UserError(
                f"model.without names {name!r}; this net's layers are {', '.join(present)}"
            )
        if name == present[-1]:
            raise UserError(f"model.without names the classifier {name!r}, which has to stay")
    return replace(net, layers=tuple(x for x in net.layers if getattr(x, "name", "") not in names))


def _exchanging(net: Net, names: tuple[str, ...]) -> Net:
    """The net with exchanges before these layers and nowhere else."""
    first, *others = weighted_layers(net)
    for name in names:
        if name not in others:
            raise UserError(
                f"model.exchange names {name!r}; the towers can exchange before "
                f"{', '.join(others)} ({first} reads the image)"
            )
    layers = []
    for layer in net.layers:
        if not isinstance(layer, Exchange):
            layers += [Exchange()] * (layer.name in names) + [layer]
    return replace(net, layers=tuple(layers))


def _check_classifier_reads_all(net: Net) -> None:
    position = len(net.layers) - 1
    if net.towers > 1 and not isinstance(net.layers[position - 1], Exchange):
        name = net.layers[position].name
        raise UserError(
            f"{net.towers} towers without an exchange before the classifier {name!r}; "
            f"add it to model.exchange"
        )


def _changed(layer: Layer, changes: ConfigDict) -> Layer | None:
    """One layer under the config's activation, norms, pools and dropout; None = left out."""
    if isinstance(layer, NORMS) and changes.lrn is False:
        return None
    if isinstance(layer, POOLS) and changes.pool_size is not None:
        return replace(layer, size=changes.pool_size)
    if isinstance(layer, Dropout) and changes.dropout is not None:
        return replace(layer, rate=changes.dropout) if changes.dropout else None
    if getattr(layer, "activation", None) and changes.activation is not None:
        return replace(layer, activation=changes.activation)
    return layer


def _widened(net: Net, width: float, num_classes: int) -> Net:
    """Every layer with `width` times its units, the classifier with one unit a class."""
    units = math.gcd(*(x.features for x in weighted_layers(net).values() if x.features))
    if units % net.towers:
        raise UserError(
            f"model.towers={net.towers} does not divide every layer; use a divisor of {units}"
        )
    grain = units // net.towers
    multiple = round(width * grain)
    if multiple < 1 or not math.isclose(width * grain, multiple):
        raise UserError(
            f"model.width={width!r} does not divide every layer into {net.towers} tower(s); "
            f"use a multiple of 1/{grain}, such as {max(multiple, 1) / grain!r}"
        )

    def widen(layer: Layer) -> Layer:
        if not isinstance(layer, WEIGHTED):
            return layer
        features = layer.features * multiple // grain if layer.features else num_classes
        return replace(layer, features=features)

    return replace(net, layers=tuple(widen(layer) for layer in net.layers))


def _fan_ins(net: Net, crop: int) -> dict[str, int]:
    return {shape.layer.name: shape.fan_in for shape in walk(net, crop)}


def _scaled_std(layer: Layer, here: int, published: int) -> Layer:
    """A unit's input keeps its published variance however few inputs it has.

    With the published std a net of a quarter of the width stays at chance level. conv1 reads the
    same pixels at any width, so it keeps its own.
    """
    if layer.std is None:
        return replace(layer, std=math.sqrt(1 / (3 * here)))
    if layer.name == "conv1":
        return layer
    return replace(layer, std=layer.std * math.sqrt(published / here))


def _scaled(net: Net, crop: int, published: Net) -> Net:
    """The net with initial stds × √(fan-in of the published net ÷ fan-in here)."""
    here = _fan_ins(net, crop)
    there = _fan_ins(_widened(published, 1.0, 1), published.crop)
    layers = (
        _scaled_std(x, here[x.name], there[x.name]) if isinstance(x, WEIGHTED) else x
        for x in net.layers
    )
    return replace(net, layers=tuple(layers), crop=crop)


def resolve(model_config: ConfigDict, crop: int) -> Net:
    """The net of `config.model` for images of side `crop` pixels, every number filled in.

    `num_classes` must be set. Raises UserError for an unknown net, layer or activation, a width
    that the towers cannot divide, and a crop that is too small, with the smallest possible.
    """
    name = model_config.name
    if name not in NETS:
        raise UserError(f"model.name={name!r} is unknown; choose from {', '.join(NETS)}")
    if model_config.activation not in (None, *ACTIVATIONS):
        raise UserError(
            f"model.activation={model_config.activation!r} is unknown; choose from "
            f"{', '.join(ACTIVATIONS)}"
        )
    published = NETS[name]
    net = replace(published, towers=model_config.towers or published.towers)
    if model_config.exchange is not None:
        net = _exchanging(net, model_config.exchange)
    net = _without(net, model_config.without)
    _check_classifier_reads_all(net)
    kept = (_changed(layer, model_config) for layer in net.layers)
    net = replace(net, layers=tuple(layer for layer in kept if layer is not None))
    net = _widened(net, model_config.width, model_config.num_classes)
    try:
        return _scaled(net, crop, published)
    except WindowTooLarge:
        raise UserError(
            f"data.crop_size={crop} is too small for {name}; "
            f"the smallest possible is {smallest_crop(net)}"
        ) from None
