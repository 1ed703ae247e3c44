"""Changes that a config makes to a published net: the paper's ablations, widths and crops."""

import math
from dataclasses import replace

from ml_collections import ConfigDict

from alexnet_jax.errors import UserError
from alexnet_jax.nets.shapes import WindowTooLargeError, layer_shapes, smallest_crop
from alexnet_jax.nets.spec import (
    LRN,
    Activation,
    BatchNorm,
    Dropout,
    Exchange,
    Layer,
    Learned,
    Net,
    Norm,
    Pool,
    Weighted,
)
from alexnet_jax.nets.zoo import NETS

ACTIVATIONS = ("relu", "tanh")  # `ops` has one more, which is only for explanations


def weighted_layers(net: Net) -> dict[str, Weighted]:
    """Returns the layers that have weights, by name."""
    return {layer.name: layer for layer in net.layers if isinstance(layer, Weighted)}


def learned_layers(net: Net) -> dict[str, Learned]:
    """Returns the layers that have parameters, by name: those with weights, and BatchNorm."""
    return {layer.name: layer for layer in net.layers if isinstance(layer, Learned)}


def _without(net: Net, names: tuple[str, ...]) -> Net:
    """Returns the net without the named layers.

    Raises:
      UserError: a name that is not in the net, or the classifier's.
    """
    named = [layer for layer in net.layers if not isinstance(layer, Exchange)]
    present = [layer.name for layer in named]
    for name in names:
        if name not in present:
            raise UserError(
                f"model.without names {name!r}; this net's layers are {', '.join(present)}"
            )
        if name == present[-1]:
            raise UserError(f"model.without names the classifier {name!r}, which has to stay")
    kept = (x for x in net.layers if isinstance(x, Exchange) or x.name not in names)
    return replace(net, layers=tuple(kept))


def _exchanging(net: Net, names: tuple[str, ...]) -> Net:
    """Returns the net with exchanges before the named layers and nowhere else.

    Raises:
      UserError: a name that is not a layer with weights, or the first one's.
    """
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


def _check_first_layers(net: Net) -> None:
    """Raises UserError if a layer that is computed over all towers would read the image.

    Every tower has a copy of the image, where these layers expect each tower's share of the maps.
    """
    for layer in net.layers:
        if isinstance(layer, Weighted) or net.towers == 1:
            return
        if isinstance(layer, BatchNorm | Dropout) or (
            isinstance(layer, LRN) and layer.across_towers
        ):
            raise UserError(
                f"model.without leaves no layer with weights before {layer.name!r}, which in a net "
                f"of {net.towers} towers cannot read the image; leave {layer.name!r} out too"
            )


def _check_classifier_reads_all(net: Net) -> None:
    # A slice: the classifier may be the only layer that model.without has left.
    *_, classifier = net.layers
    if net.towers > 1 and not any(isinstance(below, Exchange) for below in net.layers[-2:-1]):
        raise UserError(
            f"{net.towers} towers without an exchange before the classifier {classifier.name!r}; "
            f"add it to model.exchange"
        )


def _changed(layer: Layer, model: ConfigDict) -> Layer | None:
    """Returns one layer with the config's activation, pool size and dropout; None to leave it out.

    Smaller pooling windows keep the published output sizes: released net 147, the paper's ablation
    of overlapping pooling, has maps of 27, 13 and 6 pixels too.
    """
    # `is False`: None, which is unset, keeps the norms.
    if isinstance(layer, Norm) and model.lrn is False:
        return None
    if isinstance(layer, Pool) and model.pool_size is not None:
        # Rounded up, 55 pixels have 28 windows of 2 pixels; rounded down, the published 27.
        ceil = layer.ceil and model.pool_size >= layer.size
        return replace(layer, size=model.pool_size, ceil=ceil)
    if isinstance(layer, Dropout) and model.dropout is not None:
        return replace(layer, rate=model.dropout) if model.dropout else None
    if isinstance(layer, Activation | Weighted) and model.activation:
        return _activated_by(layer, model.activation)
    return layer


def _activated_by(layer: Activation | Weighted, activation: str) -> Layer:
    """Returns the layer with another activation; one without, such as the classifier, stays linear.

    The initial biases of 1 give ReLUs positive inputs (paper §5). They saturate a tanh, so it
    starts from biases of 0, also where the activation is a layer of its own.
    """
    if isinstance(layer, Weighted) and layer.bias and activation != "relu":
        layer = replace(layer, bias=0.0)
    return replace(layer, activation=activation) if layer.activation else layer


def _initialised(net: Net, initial: tuple[tuple[str, float, float], ...]) -> Net:
    """Returns the net with other initial stds and biases.

    Args:
      net: a net of the published width, because the stds are for its fan-in. Where the net is made
        smaller later, they are scaled like the published ones.
      initial: (layer, std, bias) of each layer to change.

    Raises:
      UserError: a name that is not a layer with weights, or a bias for a layer without biases.
    """
    present = weighted_layers(net)
    for name, _, bias in initial:
        if name not in present:
            raise UserError(
                f"model.initial names {name!r}; layers with weights are {', '.join(present)}"
            )
        if bias and present[name].bias is None:
            raise UserError(
                f"model.initial gives {name!r} a bias of {bias:g}; this layer has none, because "
                "batch normalisation follows; give 0"
            )
    new = {name: (std, bias) for name, std, bias in initial}

    def changed(layer: Layer) -> Layer:
        if not isinstance(layer, Weighted) or layer.name not in new:
            return layer
        std, bias = new[layer.name]
        return replace(layer, std=std, bias=None if layer.bias is None else bias)

    layers = map(changed, net.layers)
    return replace(net, layers=tuple(layers))


def _widened(net: Net, width: float, num_classes: int) -> Net:
    """Returns the net with `width` times the features, and one classifier unit per class.

    Raises:
      UserError: the towers or the width do not divide every layer into integers.
    """
    # Any width whose product with this common divisor is an integer divides every layer.
    unit = math.gcd(*(x.features for x in weighted_layers(net).values() if x.features))
    if unit % net.towers:
        raise UserError(
            f"model.towers={net.towers} does not divide every layer; use a divisor of {unit}"
        )
    grain = unit // net.towers
    multiple = round(width * grain)
    # The unit is 0 if only the classifier is left, which no width changes.
    if unit and (multiple < 1 or not math.isclose(width * grain, multiple)):
        raise UserError(
            f"model.width={width!r} does not divide every layer into {net.towers} tower(s); "
            f"use a multiple of 1/{grain}, such as {max(multiple, 1) / grain!r}"
        )

    def widen(layer: Layer) -> Layer:
        if not isinstance(layer, Weighted):
            return layer
        features = layer.features * multiple // grain if layer.features else num_classes
        return replace(layer, features=features)

    return replace(net, layers=tuple(map(widen, net.layers)))


def published(name: str, num_classes: int) -> Net:
    """Returns a published net as it is, with a classifier of one unit per class."""
    return _widened(NETS[name], 1.0, num_classes)


def _fan_ins(net: Net, crop: int) -> dict[str, int]:
    return {shape.layer.name: shape.fan_in for shape in layer_shapes(net, crop)}


def _scaled_std(layer: Layer, fan_in: int, published_fan_in: int) -> Layer:
    """Returns the layer with std × √(published fan-in ÷ fan-in).

    A unit's input then keeps its published variance. With the published std, a net of a quarter of
    the width stays at chance level. conv1 reads the same pixels at any width, so its std is kept.
    """
    # None is PyTorch's default, whose variance follows the fan-in already.
    if layer.std is None:
        return replace(layer, std=math.sqrt(1 / (3 * fan_in)))
    if layer.name == "conv1":
        return layer
    return replace(layer, std=layer.std * math.sqrt(published_fan_in / fan_in))


def _scaled(net: Net, crop: int, original: Net) -> Net:
    """Returns the net for this crop, every initial std scaled by its layer's fan-in."""
    ours = _fan_ins(net, crop)
    # The number of classes changes no fan-in, so any serves.
    theirs = _fan_ins(_widened(original, 1.0, 1), original.crop)
    layers = (
        _scaled_std(x, ours[x.name], theirs[x.name]) if isinstance(x, Weighted) else x
        for x in net.layers
    )
    return replace(net, layers=tuple(layers), crop=crop)


def resolve(model: ConfigDict, crop: int) -> Net:
    """Returns the net of config.model for images of crop×crop pixels, with every number filled in.

    model.num_classes must be set.

    Raises:
      UserError: an unknown net, layer or activation, a layer that cannot read the image,
        towers that do not all reach the classifier, a width that the towers cannot divide, or a
        crop that is too small.
    """
    if model.name not in NETS:
        raise UserError(f"model.name={model.name!r} is unknown; choose from {', '.join(NETS)}")
    if model.activation not in (None, *ACTIVATIONS):
        raise UserError(
            f"model.activation={model.activation!r} is unknown; choose from "
            f"{', '.join(ACTIVATIONS)}"
        )
    original = NETS[model.name]
    net = replace(original, towers=model.towers or original.towers)
    if model.exchange is not None:
        net = _exchanging(net, model.exchange)
    # After the exchanges: the exchange before a layer that is left out then serves the next one.
    net = _without(net, model.without)
    _check_first_layers(net)
    _check_classifier_reads_all(net)
    changed = (_changed(layer, model) for layer in net.layers)
    net = replace(net, layers=tuple(layer for layer in changed if layer is not None))
    # Before the net is made smaller: the given stds are then scaled as the published ones are.
    net = _initialised(net, model.initial)
    net = _widened(net, model.width, model.num_classes)
    try:
        return _scaled(net, crop, original)
    except WindowTooLargeError:
        raise UserError(
            f"data.crop_size={crop} is too small for {model.name}; "
            f"the smallest possible is {smallest_crop(net)}"
        ) from None
