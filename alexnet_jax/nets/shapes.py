"""The arithmetic of a net's sizes: outputs, kernels, parameters and multiply-adds."""

import bisect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alexnet_jax.nets.spec import (
    STATISTICS,
    BatchNorm,
    Conv,
    Dense,
    Exchange,
    Layer,
    Local,
    Net,
    Pool,
    Weighted,
    Window,
)


class WindowTooLargeError(Exception):
    """A window that does not fit into the map it slides over."""


@dataclass(frozen=True)
class LayerShape:
    """The sizes of one layer in a net, for one image.

    Attributes:
      layer: the layer itself.
      reads: shape of the output of the layer below, over all towers: (height, width, maps) or
        (units,).
      out: shape of this layer's output, in the same form.
      per_tower: maps or units that one tower computes.
      exchanged: each tower reads the maps of all towers, not only its own.
      fan_in: inputs of one unit; 0 without weights.
      kernel, bias: parameter shapes with their leading tower axis; () without weights. The other
        parameters of batch normalisation have the shape of its bias.
      macs: multiply-adds over all towers.
    """

    layer: Layer
    reads: tuple[int, ...]
    out: tuple[int, ...]
    per_tower: int
    exchanged: bool = False
    fan_in: int = 0
    kernel: tuple[int, ...] = ()
    bias: tuple[int, ...] = ()
    macs: int = 0

    @property
    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Returns the shape of each of the layer's parameters by its name."""
        if isinstance(self.layer, BatchNorm):
            return dict.fromkeys(("scale", "bias", *STATISTICS), self.bias)
        both = {"kernel": self.kernel, "bias": self.bias}
        return {name: shape for name, shape in both.items() if shape}

    @property
    def learned(self) -> dict[str, tuple[int, ...]]:
        """Returns the shape of each parameter that gradients move: all but running averages."""
        return {name: shape for name, shape in self.arrays.items() if name not in STATISTICS}

    @property
    def params(self) -> int:
        """Returns the number of parameters that gradients move."""
        return sum(map(math.prod, self.learned.values()))


def window_count(side: int, layer: Window) -> int:
    """Returns the number of window positions along one axis of `side` pixels.

    It is 1 + (side + 2 · padding − size) ÷ stride, rounded down, or with layer.ceil rounded up
    (released code, `layer.py`).

    Raises:
      WindowTooLargeError: not a single window fits.
    """
    room = side + 2 * layer.padding - layer.size
    if room < 0:
        raise WindowTooLargeError
    rounding = math.ceil if layer.ceil else math.floor
    return rounding(room / layer.stride) + 1


def overhang(side: int, layer: Window) -> int:
    """Returns the pixels by which the last window reaches over the far edge of `side` pixels.

    224 pixels, windows of 11 and a stride of 4 make 55 windows, the last 3 pixels over the edge.
    """
    reach = (window_count(side, layer) - 1) * layer.stride + layer.size
    # Rounded down, the last window may end before the edge: 0, not a negative overhang.
    return max(0, reach - (side + 2 * layer.padding))


def _dense_shape(
    layer: Dense, reads: tuple[int, ...], fan_in: int, towers: int, exchanged: bool
) -> LayerShape:
    columns = towers if layer.divided else 1  # the classifier has a single kernel
    units = layer.features // columns
    kernel, bias = (columns, fan_in, units), (columns, units)
    macs = math.prod(kernel)
    bias = () if layer.bias is None else bias
    return LayerShape(layer, reads, (layer.features,), units, exchanged, fan_in, kernel, bias, macs)


def _window_shape(
    layer: Conv | Local, reads: tuple[int, ...], maps: int, towers: int, exchanged: bool
) -> LayerShape:
    side, features = window_count(reads[0], layer), layer.features // towers
    fan_in = maps * layer.size**2
    if isinstance(layer, Local):
        # Each position has its own kernel, so every weight takes part in one multiply-add.
        kernel = (towers, side, side, fan_in, features)
        bias, macs = (towers, side, side, features), math.prod(kernel)
    else:
        kernel = (towers, layer.size, layer.size, maps, features)
        bias, macs = (towers, features), math.prod(kernel) * side**2
    out = (side, side, layer.features)
    bias = () if layer.bias is None else bias
    return LayerShape(layer, reads, out, features, exchanged, fan_in, kernel, bias, macs)


def layer_shapes(net: Net, crop: int) -> Iterator[LayerShape]:
    """Yields the shape of every layer but the exchanges, for RGB images of crop×crop pixels.

    Raises:
      WindowTooLargeError: a window does not fit.
    """
    # Every tower reads all three colours. An exchange is pending until the next layer with weights.
    out, per_tower, exchange = (crop, crop, 3), 3, False
    for layer in net.layers:
        if isinstance(layer, Exchange):
            # Nothing to exchange with one tower, or of the image, which every tower has already.
            exchange = per_tower < out[-1]
            continue
        if isinstance(layer, Weighted):
            maps = out[-1] if exchange else per_tower
            if isinstance(layer, Dense):
                fan_in = maps * math.prod(out[:-1])
                shape = _dense_shape(layer, out, fan_in, net.towers, exchange)
            else:
                shape = _window_shape(layer, out, maps, net.towers, exchange)
            exchange = False
        elif isinstance(layer, Pool):
            side = window_count(out[0], layer)
            shape = LayerShape(layer, out, (side, side, out[-1]), per_tower)
        elif isinstance(layer, BatchNorm):
            # Shape (towers, maps of one tower), as that of any bias.
            shape = LayerShape(layer, out, out, per_tower, bias=(out[-1] // per_tower, per_tower))
        else:
            shape = LayerShape(layer, out, out, per_tower)
        out, per_tower = shape.out, shape.per_tower
        yield shape


def smallest_crop(net: Net) -> int:
    """Returns the smallest crop, in pixels, at which every window fits."""

    def fits(crop: int) -> bool:
        try:
            return bool(list(layer_shapes(net, crop)))
        except WindowTooLargeError:
            return False

    # Bisection: if the windows fit into a map, they fit into every larger one.
    sides = range(1, 2**40)  # a range holds no list; the bound is above any real crop
    return sides[bisect.bisect_left(sides, True, key=fits)]


def without_statistics(params: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the parameters that gradients move: all but the running averages of BatchNorm.

    Args:
      params: {layer: {name: leaf}}; the leaves may be anything, such as partition specs.
    """
    return {
        layer: {name: x for name, x in leaves.items() if name not in STATISTICS}
        for layer, leaves in params.items()
    }


def array_shapes(net: Net) -> dict[tuple[str, str], tuple[int, ...]]:
    """Returns the shape of each parameter by its layer and name, such as ("conv1", "kernel")."""
    return {
        (shape.layer.name, name): sides
        for shape in layer_shapes(net, net.crop)
        for name, sides in shape.arrays.items()
    }


TABLE_HEADER = (
    "layer", "output", "a tower has", "reads", "kernel", "parameters", "multiply-adds",
)  # fmt: skip


def _table_row(shape: LayerShape, towers: int) -> tuple[str, ...]:
    weighted = isinstance(shape.layer, Weighted)
    divided = towers > 1 and (not weighted or shape.layer.divided)
    return (
        shape.layer.name,
        "×".join(map(str, shape.out)),
        f"{shape.per_tower} of {shape.out[-1]}" if divided else "all",
        ("all towers" if shape.exchanged else "its own") if weighted and towers > 1 else "",
        "×".join(map(str, shape.kernel[1:])),
        f"{shape.params:,}" if shape.arrays else "",
        f"{shape.macs:,}" if weighted else "",
    )


def layer_table(net: Net) -> list[Sequence[str]]:
    """Returns the rows of a table of the net: TABLE_HEADER, a row per layer, and the totals.

    Multiply-adds are those for one image.
    """
    shapes = list(layer_shapes(net, net.crop))
    totals = (f"{sum(s.params for s in shapes):,}", f"{sum(s.macs for s in shapes):,}")
    rows = [_table_row(shape, net.towers) for shape in shapes]
    return [TABLE_HEADER, *rows, ("total", "", "", "", "", *totals)]
