"""Training curves: loss and error against epochs, with the drops of the learning rate."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.errors import UserError
from alexnet_jax.figures.style import COLOURS, SETTINGS
from alexnet_jax.runs.metrics import FILE, Line, read_lines


def read_metrics(folder: Path) -> list[Line]:
    """Reads the lines of a metrics.jsonl; raises UserError if there are none or one is broken."""
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{folder} has no {FILE}; give the workdir of a run")
    lines = read_lines(path)
    if not lines:
        raise UserError(f"{path} has no lines yet; give the workdir of a run that has logged some")
    return lines


def series(lines: Sequence[Line], key: str, x: str = "epoch") -> tuple[list[float], list[float]]:
    """Returns two lists of equal length: x and the key's value, from the lines that have the key.

    Args:
      lines: of metrics.jsonl.
      key: such as train/loss.
      x: epoch, step or time.
    """
    found = [(line[x], line[key]) for line in lines if key in line]
    return [a for a, _ in found], [b for _, b in found]


def rate_drops(lines: Sequence[Line]) -> list[tuple[float, float]]:
    """Returns each epoch at which the learning rate dropped, with the new rate."""
    epochs, rates = series(lines, "train/learning_rate")
    pairs = zip(epochs[1:], rates[1:], rates[:-1], strict=True)
    # By 1 % or more: rounding changes a constant rate by less.
    return [(epoch, rate) for epoch, rate, before in pairs if rate < 0.99 * before]


def _mark_drops(axes: Axes, lines: Sequence[Line]) -> None:
    """Draws the learning rate's drops; a smooth schedule has too many to be drawn."""
    drops = rate_drops(lines)
    for i, (epoch, rate) in enumerate(drops if len(drops) <= 8 else ()):
        axes.axvline(epoch, color="#999999", linewidth=0.8, linestyle=":")
        axes.annotate(
            f"rate {np.format_float_positional(rate, 2, fractional=False, trim='-')}",
            (epoch, 1),
            xycoords=("data", "axes fraction"),
            rotation=90,
            fontsize=7,
            color="#777777",
            # The last two may be near each other: their words stand on either side.
            ha="left" if i == len(drops) - 1 else "right",
            va="top",
        )


def draw_curves(lines: Sequence[Line], title: str, columns: int = 2) -> Figure:
    """Draws loss and top-1 error in training and validation, in two columns or one."""
    with rc_context(SETTINGS):
        figure = Figure(figsize=(4.5 * columns, 3.4 * 2 / columns), layout="constrained")
        left, right = figure.subplots(2 // columns, columns)
        for axes, name, scale, label in (
            (left, "loss", 1, "loss"),
            (right, "top1_error", 100, "top-1 error (%)"),
        ):
            for key, colour, words in (
                (f"train/{name}", "#9fc5e8", "training, one batch"),
                (f"train/epoch_{name}", COLOURS[0], "training, epoch"),
                (f"val/{name}", COLOURS[1], "validation"),
            ):
                epochs, values = series(lines, key)
                if not values:  # a run without validation
                    continue
                width = 0.7 if colour == "#9fc5e8" else 1.6
                axes.plot(epochs, [scale * v for v in values], color=colour, lw=width, label=words)
            _mark_drops(axes, lines)
            axes.set_xlabel("epoch")
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0)
        left.legend()
        figure.suptitle(title, parse_math=False)  # a folder may have a $ in its name
    return figure
