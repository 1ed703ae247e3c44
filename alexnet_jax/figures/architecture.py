"""A net as boxes, drawn from its tuple of layers (paper, Figure 2)."""

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from alexnet_jax.figures.style import COLOURS, SETTINGS
from alexnet_jax.nets.shapes import LayerShape, layer_shapes
from alexnet_jax.nets.spec import Conv, Dense, Exchange, Local, Net, Norm, Pool, Weighted

STEP = 1.0  # distance between two columns
TALLEST = 1.6  # of a box


def draw_net(net: Net, title: str) -> Figure:
    """Draws one column a layer with weights and one row a tower, with the towers' exchanges."""
    shapes = [x for x in layer_shapes(net, net.crop) if isinstance(x.layer, Weighted)]
    notes = _between(net)
    with rc_context(SETTINGS):
        figure = Figure(figsize=(1.25 * (len(shapes) + 1.4), 1.2 + 2.0 * net.towers))
        axes = figure.add_subplot()
        _draw_input(axes, net)
        for column, shape in enumerate(shapes, 1):
            _draw_layer(axes, net, shape, column, notes[shape.layer.name])
        axes.set_xlim(-0.6, len(shapes) + 0.7)
        axes.set_ylim(-1.5, 2.0 * net.towers - 0.1)
        axes.set_axis_off()
        axes.set_title(title)
    return figure


def _between(net: Net) -> dict[str, list[str]]:
    """Returns what follows each layer with weights before the next one, in words."""
    notes, current = {}, []
    for layer in net.layers:
        if isinstance(layer, Weighted):
            current = notes.setdefault(layer.name, [])
        elif isinstance(layer, Norm):
            current.append("LRN")
        elif isinstance(layer, Pool):
            current.append(f"pool {layer.size}/{layer.stride}")
        elif not isinstance(layer, Exchange):
            current.append(type(layer).__name__.lower())
    return notes


def _centre(net: Net, tower: int) -> float:
    """Returns the height of the middle of a tower's row; tower 0 is at the top."""
    return 2.0 * (net.towers - 1 - tower) + 0.6


def _draw_input(axes: Axes, net: Net) -> None:
    middle = sum(_centre(net, t) for t in range(net.towers)) / net.towers
    axes.add_patch(
        Rectangle((-0.3, middle - 0.8), 0.5, 1.6, facecolor="#eeeeee", edgecolor="#555555")
    )
    axes.text(-0.05, middle, f"{net.crop}\n×{net.crop}\n×3", ha="center", va="center", fontsize=8)


def _draw_layer(axes: Axes, net: Net, shape: LayerShape, column: int, notes: list[str]) -> None:
    """Draws a layer's box in every tower, the arrows into it and the words below it."""
    layer, x = shape.layer, column * STEP
    towers = range(net.towers) if layer.divided else [None]
    # A part of the height follows the side of the maps, the rest leaves room for the text.
    height = TALLEST * (0.35 + 0.65 * (shape.out[0] / net.crop if len(shape.out) == 3 else 0.9))
    for tower in towers:
        # Without towers, between the rows.
        middle = (net.towers - 1.0) + 0.6 if tower is None else _centre(net, tower)
        colour = COLOURS[0] if isinstance(layer, Conv | Local) else COLOURS[2]
        axes.add_patch(
            Rectangle((x - 0.22, middle - height / 2), 0.44, height, facecolor=colour, alpha=0.85)
        )
        places = f"{shape.out[0]}²×\n" if len(shape.out) == 3 else ""
        axes.text(
            x, middle, f"{places}{shape.per_tower}",
            ha="center", va="center", fontsize=8, color="white",
        )  # fmt: skip
        for source in _sources(net, tower, column, shape.exchanged):
            # Arrows from another tower's row stand out: they are the exchanges.
            _arrow(axes, x, source, middle, crosses=abs(source - middle) > 0.1 and column > 1)
    size = f"{layer.size}×{layer.size}" if not isinstance(layer, Dense) else ""
    stride = f"/{layer.stride}" if isinstance(layer, Conv) and layer.stride > 1 else ""
    words = [layer.name, size + stride, *notes]
    axes.text(x, -0.55, "\n".join(w for w in words if w), ha="center", va="top", fontsize=7)


def _sources(net: Net, tower: int | None, column: int, exchanged: bool) -> list[float]:
    """Returns the heights of the boxes that a layer reads."""
    everyone = [_centre(net, t) for t in range(net.towers)]
    if column == 1:  # every tower reads the image
        return [sum(everyone) / len(everyone)]
    return everyone if exchanged or tower is None else [_centre(net, tower)]


def _arrow(axes: Axes, x: float, source: float, target: float, crosses: bool) -> None:
    axes.add_patch(
        FancyArrowPatch(
            (x - STEP + 0.24, source),
            (x - 0.24, target),
            arrowstyle="-|>",
            mutation_scale=8,
            linewidth=1.0,
            color=COLOURS[1] if crosses else "#666666",
        )
    )
