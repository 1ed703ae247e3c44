"""The layers of a net as a table for other programs: a row of plain numbers for each layer."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from alexnet_jax.nets.shapes import LayerShape, layer_shapes, overhang
from alexnet_jax.nets.spec import Net, Weighted, Window
from alexnet_jax.plan.memory import FLOAT

Row = dict[str, Any]


def layer_rows(net: Net) -> list[Row]:
    """Returns the sizes of every layer of a resolved net for one image, over all towers.

    The keys are the columns of the table:
      layer, kind: its name and the class of its description in `nets.spec`.
      in_height … out_maps: the sizes of its input and output; dense units are maps of 1×1 pixels.
      size, stride, padding, far_padding: of its windows in pixels; far_padding is what the last
        window needs in addition, at the bottom and the right. 0 without windows.
      towers: columns that share its maps; 1 for the classifier.
      reads_all_towers: 1 if each tower reads the maps of all towers, 0 if only its own.
      fan_in: inputs of one unit.
      parameters, multiply_adds: numbers; parameter_bytes, output_bytes: in float32.
    """
    return [_row(shape, net.towers) for shape in layer_shapes(net, net.crop)]


def _row(shape: LayerShape, towers: int) -> Row:
    layer = shape.layer
    window = isinstance(layer, Window)
    divided = not isinstance(layer, Weighted) or layer.divided
    return {
        "layer": layer.name,
        "kind": type(layer).__name__,
        **_volume("in", shape.reads),
        **_volume("out", shape.out),
        "size": layer.size if window else 0,
        "stride": layer.stride if window else 0,
        "padding": layer.padding if window else 0,
        "far_padding": overhang(shape.reads[0], layer) if window else 0,
        "towers": towers if divided else 1,
        "reads_all_towers": int(shape.exchanged),
        "fan_in": shape.fan_in,
        "parameters": shape.params,
        "multiply_adds": shape.macs,
        "parameter_bytes": FLOAT * shape.params,
        "output_bytes": FLOAT * math.prod(shape.out),
    }


def _volume(name: str, shape: tuple[int, ...]) -> Row:
    """Returns the sides of (height, width, maps) or (units,) under the names of their columns."""
    height, width, maps = shape if len(shape) == 3 else (1, 1, *shape)
    return {f"{name}_height": height, f"{name}_width": width, f"{name}_maps": maps}


def csv_text(rows: Sequence[Row]) -> str:
    """Returns the rows as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")  # csv would end lines in \r\n
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")
