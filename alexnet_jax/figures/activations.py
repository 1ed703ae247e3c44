"""Training error against epochs for ReLU and tanh (paper, Figure 1)."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.errors import UserError
from alexnet_jax.figures.records import MAKE, read_number, read_series, record_folders
from alexnet_jax.figures.style import COLOURS, SETTINGS
from alexnet_jax.runs.workdir import read_config

# A record's folder: activation, initial weights, rate or seed.
NAME = re.compile(r"(relu|tanh)_(\w+)_([\d.]+|seed\d+)")
TARGET = 0.25  # training error at which the paper compares the two


@dataclass(frozen=True)
class ActivationRun:
    """One record of results/figure1_rates or results/figure1.

    Attributes:
      activation: relu or tanh.
      start: name of the initial weights.
      rate: learning rate.
      epochs, errors: training error of each whole epoch, as a fraction.
    """

    activation: str
    start: str
    rate: float
    epochs: Sequence[float]
    errors: Sequence[float]

    @property
    def order(self) -> tuple[float, float]:
        """Returns a key that sorts faster runs first: the last error, then the number of epochs."""
        # A run ends once it reaches the target, so errors below it count the same.
        return max(TARGET, self.errors[-1]), self.epochs[-1]


def read_activation_runs(folder: Path) -> list[ActivationRun]:
    """Reads the records of a folder, without those that diverged.

    Raises:
      UserError: the folder has no such record, or one of them is broken.
    """
    found = []
    for record in record_folders(folder):
        name = NAME.fullmatch(record.name)
        if name is None or read_number(record, "diverged"):
            continue
        rate = read_config(record).optim.learning_rate
        epochs, errors = read_series(record, "train/epoch_top1_error")
        found.append(ActivationRun(name[1], name[2], rate, epochs, errors))
    if not found:
        raise UserError(f"{folder} has no records; {MAKE}")
    return found


def fastest(runs: Sequence[ActivationRun]) -> dict[tuple[str, str], ActivationRun]:
    """Returns the run at the best rate, by (initial weights, activation)."""
    best: dict[tuple[str, str], ActivationRun] = {}
    for run in sorted(runs, key=lambda run: run.order):
        # The first one stays: it is the fastest.
        best.setdefault((run.start, run.activation), run)
    return best


def draw_activations(runs: Sequence[ActivationRun]) -> Figure:
    """Draws a panel for each kind of initial weights, with both activations at their best rates.

    Several seeds at the best rate are drawn as one line each.
    """
    best = fastest(runs)
    drawn = [run for run in runs if run.rate == best[run.start, run.activation].rate]
    starts = sorted({start for start, _ in best}, reverse=True)  # published before fan_in
    with rc_context(SETTINGS):
        figure = Figure(figsize=(4.2 * len(starts), 3.2), layout="constrained")
        panels = figure.subplots(1, len(starts), squeeze=False, sharey=True)[0]
        for axes, start in zip(panels, starts, strict=True):
            _draw_panel(axes, start, [run for run in drawn if run.start == start])
        panels[0].set_ylabel("training error in %")
    return figure


def _draw_panel(axes: Axes, start: str, runs: Sequence[ActivationRun]) -> None:
    axes.axhline(100 * TARGET, color="#999999", lw=0.8, ls=":", label=f"{100 * TARGET:.0f} %")
    named: set[str] = set()
    seeds = Counter(run.activation for run in runs)
    for run in sorted(runs, key=lambda run: run.activation):
        relu = run.activation == "relu"
        label = f"{'ReLU' if relu else 'tanh'}, rate {run.rate:g}, seeds: {seeds[run.activation]}"
        axes.plot(
            run.epochs,
            [100 * error for error in run.errors],
            color=COLOURS[0] if relu else COLOURS[1],
            ls="-" if relu else "--",
            label="" if label in named else label,  # one entry of the legend for all seeds
        )
        named.add(label)
    axes.set_title(f"{start.replace('_', '-')} initial weights", fontsize=9)
    axes.set_xlabel("epoch")
    axes.legend()
