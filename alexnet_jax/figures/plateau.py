"""The plateau at chance: loss against step for other initial weights and numbers of classes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.errors import UserError
from alexnet_jax.figures.records import MAKE, read_series, record_folders
from alexnet_jax.figures.style import COLOURS, SETTINGS
from alexnet_jax.runs.workdir import read_config

WINDOW = 5  # logged lines that the loss is averaged over
NOTE = {"ha": "right", "va": "bottom", "fontsize": 7, "color": "#777777"}  # at chance's line
BELOW = 0.01  # fraction of ln(classes) by which the loss has to lie below it


@dataclass(frozen=True)
class PlateauRun:
    """One record of results/plateau.

    Attributes:
      classes: number of them.
      crop: side of the net's input in pixels.
      std: initial std of conv3 to conv5, at the published width.
      bias: initial bias where the paper has 1.
      steps, losses: of the logged lines.
    """

    classes: int
    crop: int
    std: float
    bias: float
    steps: np.ndarray
    losses: np.ndarray

    @property
    def chance(self) -> float:
        """Returns the loss of a net that knows nothing: ln(classes)."""
        return math.log(self.classes)

    @property
    def smooth(self) -> np.ndarray:
        """Returns the loss averaged over the last WINDOW logged lines: float64 [lines]."""
        # The first value is repeated in front, so that every line has an average.
        padded = np.concatenate([np.full(WINDOW - 1, self.losses[0]), self.losses])
        return np.convolve(padded, np.full(WINDOW, 1 / WINDOW), mode="valid")

    @property
    def left_at(self) -> int | None:
        """Returns the step from which the averaged loss stays 1 % below chance; None if never."""
        above = np.flatnonzero(self.smooth > (1 - BELOW) * self.chance)
        first = above[-1] + 1 if len(above) else 0
        return int(self.steps[first]) if first < len(self.steps) else None


def read_runs(folder: Path) -> list[PlateauRun]:
    """Reads every record of a folder, ordered by crop, classes, std and bias.

    The most classes and the largest bias come first.

    Raises:
      UserError: the folder has no records.
    """
    found = [read_run(record) for record in record_folders(folder)]
    if not found:
        raise UserError(f"{folder} has no records; {MAKE}")
    return sorted(found, key=lambda run: (run.crop, -run.classes, run.std, -run.bias))


def read_run(folder: Path) -> PlateauRun:
    """Reads one record: its config.json and its metrics.jsonl.

    Raises:
      UserError: it is broken, or a record of something else.
    """
    config = read_config(folder)
    # conv4 has both of the values that are varied: the paper's bias of conv3 is 0.
    initial = {name: (std, bias) for name, std, bias in config.model.initial}
    if "conv4" not in initial:
        raise UserError(
            f"{folder} is no record of the plateau: its model.initial has no conv4; give a folder "
            "such as results/plateau"
        )
    steps, losses = read_series(folder, "train/loss", "step")
    return PlateauRun(
        config.model.num_classes,
        config.data.crop_size,
        initial["conv4"][0],
        initial["conv4"][1],
        np.array(steps),
        np.array(losses),
    )


def draw_plateau(runs: Sequence[PlateauRun]) -> Figure:
    """Draws a panel for each size of the net and number of classes, with a line at chance."""
    panels = list(dict.fromkeys((run.crop, run.classes) for run in runs))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)  # rounded up
    with rc_context(SETTINGS):
        figure = Figure(figsize=(4.4 * columns, 2.8 * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _draw_panel(axes, panel, [run for run in runs if (run.crop, run.classes) == panel])
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.set_ylabel("training loss")
        # Panels share their entries by the label; chance's line has none.
        lines = [x for axes in grid.flat for x in axes.lines if not x.get_label().startswith("_")]
        handles = {line.get_label(): line for line in lines}
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=8
        )
    return figure


def _draw_panel(axes: Axes, panel: tuple[int, int], runs: Sequence[PlateauRun]) -> None:
    crop, classes = panel
    chance = math.log(classes)
    # Below the runs' lines: the printed net's lies on it for long.
    axes.axhline(chance, color="#999999", lw=0.8, ls="--", zorder=1)
    axes.annotate("ln(classes)", (1, chance), xycoords=("axes fraction", "data"), **NOTE)
    for run in runs:
        axes.plot(run.steps, run.smooth, **_look(run))
    axes.set_title(f"{classes} classes, {crop} pixels", fontsize=9)
    axes.set_xlabel("step")
    axes.set_ylim(top=1.06 * chance)


def _look(run: PlateauRun) -> dict[str, object]:
    """Returns a line's colour by bias, its style by std, and its name."""
    colours = {1.0: COLOURS[1], 0.1: COLOURS[3], 0.0: COLOURS[0]}
    return {
        "color": colours.get(run.bias, COLOURS[5]),
        "lw": 1.5,
        "ls": "-" if run.std > 0.02 else ":",  # between the two stds, 0.01 and 0.03
        "label": f"std {run.std:g}, bias {run.bias:g}",
    }
