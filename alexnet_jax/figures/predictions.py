"""Test pictures with their likeliest classes as bars (paper, Figure 4, left)."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.data.records import read_images
from alexnet_jax.figures.style import SETTINGS
from alexnet_jax.runs.predictions import Predictions, open_split

PICTURES, CLASSES, COLUMNS = 8, 5, 4
RIGHT, OTHERS = "#eaa48f", "#b9cfe8"  # of bars, light enough to read a name on them
LONGEST = 24  # characters of a class name


def chosen(count: int, seed: int = 0) -> np.ndarray:
    """Returns the positions of the pictures to show, drawn without a look at them: int64 [8]."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(count, min(PICTURES, count), replace=False))


def draw_predictions(predictions: Predictions) -> Figure:
    """Draws eight random pictures of an evaluated split, each above its five likeliest classes.

    The bar of the true class has a colour of its own.

    Raises:
      UserError: the data set cannot be opened, or has changed since the evaluation.
    """
    positions = chosen(len(predictions.labels))
    pictures = read_images(open_split(predictions), positions)
    rows = -(-len(positions) // COLUMNS)
    with rc_context(SETTINGS):
        figure = Figure(figsize=(10, 3.4 * rows), layout="constrained")
        grid = figure.subplots(2 * rows, COLUMNS, squeeze=False, height_ratios=[3, 2] * rows)
        for axes in grid.flat:
            axes.set_axis_off()
        for place, (position, picture) in enumerate(zip(positions, pictures, strict=True)):
            row, column = divmod(place, COLUMNS)
            names, label = predictions.class_names, predictions.labels[position]
            _draw_picture(grid[2 * row, column], picture, str(names[label]))
            classes = predictions.classes[position][:CLASSES]
            probabilities = predictions.probabilities[position][:CLASSES]
            right = classes == label
            _draw_bars(grid[2 * row + 1, column], names[classes], probabilities, right)
    return figure


def _draw_picture(axes: Axes, picture: np.ndarray, name: str) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(shortened(name), fontsize=9, fontweight="bold")


def _draw_bars(
    axes: Axes, names: Sequence[str], probabilities: np.ndarray, right: np.ndarray
) -> None:
    axes.set_axis_on()
    axes.grid(False)
    places = np.arange(len(names))[::-1]
    axes.barh(places, probabilities, color=np.where(right, RIGHT, OTHERS), height=0.8)
    for place, name in zip(places, names, strict=True):
        axes.text(0.02, place, shortened(str(name)), va="center", fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.set_yticks([])


def shortened(name: str) -> str:
    """Returns a class name that fits below a picture."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
