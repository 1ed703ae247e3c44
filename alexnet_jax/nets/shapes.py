"""The arithmetic of a net's sizes: outputs, kernels, parameters, multiply-adds, the layer table."""

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass

from alexnet_jax.nets.zoo import (
    POOLS,
    WEIGHTED,
    AvgPool,
    Conv,
    Dense,
    Exchange,
    Layer,
    Local,
    MaxPool,
    Net,
)


class WindowTooLarge(Exception):
    """A window does not fit into what it slides over."""


@dataclass(frozen=True)
class LayerShape:
    """One layer's place in a net, for one image.

    Attributes:
      layer: the layer itself.
      out: (height, width, maps) or (units,), over all towers.
      per_tower: maps or units that one tower computes.
      exchanged: the layer reads the maps of all towers.
      fan_in: inputs of one unit; 0 without weights.
      kernel, bias: parameter shapes with their leading tower axis; () without weights.
      macs: multiply-adds over all towers.
    """

    layer: Layer
    out: tuple[int, ...]
    per_tower: int
    exchanged: bool = False
    fan_in: int = 0
    kernel: tuple[int, ...] = ()
    bias: tuple[int, ...] = ()
    macs: int = 0

    @property
    def params(self) -> int:
        """Trainable numbers of this layer."""
        return sum(math.prod(shape) for shape in (self.kernel, self.bias) if shape)


def window_places(side: int, layer: Conv | Local | MaxPool | AvgPool) -> int:
    """Places of a window along one axis of `side` pixels.

    cuda-convnet rounds up, so that the last window may hang over (released code, `layer.py`).

    Raises:
      WindowTooLarge: not even one place.
    """
    room = side + 2 * getattr(layer, "padding", 0) - layer.size
    if room < 0:
        raise WindowTooLarge
    rounding = math.ceil if getattr(layer, "ceil", False) else math.floor
    return rounding(room / getattr(layer, "stride", 1)) + 1


def _dense_shape(layer: Dense, reads: int, towers: int, exchanged: bool) -> LayerShape:
    split = 1 if layer.whole else towers
    here = layer.features // split
    kernel = (split, reads, here)
    return LayerShape(
        layer, (layer.features,), here, exchanged, reads, kernel, (split, here), math.prod(kernel)
    )


def _window_shape(
    layer: Conv | Local, side: int, maps: int, towers: int, exchanged: bool
) -> LayerShape:
    places, fan_in, here = (
        window_places(side, layer),
        maps * layer.size**2,
        layer.features // towers,
    )
    if isinstance(layer, Local):
        kernel = (towers, places, places, fan_in, here)
        bias, macs = (towers, places, places, here), math.prod(kernel)
    else:
        kernel = (towers, layer.size, layer.size, maps, here)
        bias, macs = (towers, here), math.prod(kernel) * places**2
    out = (places, places, layer.features)
    return LayerShape(layer, out, here, exchanged, fan_in, kernel, bias, macs)


def walk(net: Net, crop: int) -> Iterator[LayerShape]:
    """The shape of every layer but the exchanges, for square RGB images of side `crop` pixels.

    Raises:
      WindowTooLarge: a window does not fit.
    """
    out, here, exchange = (crop, crop, 3), 3, False
    for layer in net.layers:
        if isinstance(layer, Exchange):
            exchange = net.towers > 1
            continue
        if isinstance(layer, WEIGHTED):
            maps = out[-1] if exchange else here
            if isinstance(layer, Dense):
                shape = _dense_shape(layer, maps * math.prod(out[:-1]), net.towers, exchange)
            else:
                shape = _window_shape(layer, out[0], maps, net.towers, exchange)
            exchange = False
        elif isinstance(layer, POOLS):
            places = window_places(out[0], layer)
            shape = LayerShape(layer, (places, places, out[-1]), here)
        else:
            shape = LayerShape(layer, out, here)
        out, here = shape.out, shape.per_tower
        yield shape


def smallest_crop(net: Net) -> int:
    """The smallest side in pixels of the input at which every window fits."""

    def fits(crop: int) -> bool:
        try:
            return bool(list(walk(net, crop)))
        except WindowTooLarge:
            return False

    sides = range(1, 2**40)
    return sides[bisect.bisect_left(sides, True, key=fits)]


def _row(shape: LayerShape, towers: int) -> tuple[str, ...]:
    """One line of the layer table."""
    whole = getattr(shape.layer, "whole", False)
    weights = bool(shape.kernel)
    return (
        shape.layer.name,
        "×".join(map(str, shape.out)),
        "whole" if whole or towers == 1 else f"{shape.per_tower} of {shape.out[-1]}",
        ("all towers" if shape.exchanged else "its own") if weights and towers > 1 else "",
        "×".join(map(str, shape.kernel[1:])),
        f"{shape.params:,}" if weights else "",
        f"{shape.macs:,}" if weights else "",
    )


def layer_table(net: Net, crop: int) -> str:
    """A net's layers: output, what a tower has and reads, kernel, parameters, multiply-adds."""
    shapes = list(walk(net, crop))
    header = ("layer", "output", "a tower has", "reads", "kernel", "parameters", "multiply-adds")
    totals = (f"{sum(s.params for s in shapes):,}", f"{sum(s.macs for s in shapes):,}")
    rows = [header, *(_row(s, net.towers) for s in shapes), ("total", "", "", "", "", *totals)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if column > 4 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
