"""The comparison of several runs: results, settings, validation errors and shared mistakes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from alexnet_jax.cli.tables import percent
from alexnet_jax.figures.curves import series
from alexnet_jax.figures.style import COLOURS, SETTINGS
from alexnet_jax.report import mistakes
from alexnet_jax.report.run_facts import RunFacts
from alexnet_jax.runs import rules
from alexnet_jax.runs.predictions import split_of

NONE = "–"  # a value that a run does not have


@dataclass(frozen=True)
class Row:
    """A line of a table: its name, and a value for each run."""

    name: str
    values: tuple[str, ...]


def number_rows(runs: Sequence[RunFacts]) -> list[Row]:
    """Returns the first table of the report: results, length of the training, net and data."""
    facts = [_results(run.numbers) | _training(run) | _identity(run) for run in runs]
    # A dict as a set that keeps the order: runs evaluated on other splits have other rows.
    names = dict.fromkeys(name for found in facts for name in found)
    return [Row(name, tuple(found.get(name, NONE) for found in facts)) for name in names]


def _results(numbers: Mapping[str, Any]) -> dict[str, str]:
    """Returns the errors of an evaluation in percent; {} without one."""
    if not numbers:
        return {}
    split = split_of(numbers)
    views = numbers[f"{split}/views"]
    return {
        f"{split} top-1 error": percent(numbers[f"{split}/top1_error"]),
        f"{split} top-5 error": percent(numbers[f"{split}/top5_error"]),
        f"{split} loss": f"{numbers[f'{split}/loss']:.4f}",
        "evaluated": f"step {numbers['step']:,}, {numbers[f'{split}/examples']:,} images, "
        f"{views} view{'s' * (views > 1)}"
        + (f", mean of {numbers['members']} nets" if numbers["members"] > 1 else ""),
    }


def _training(run: RunFacts) -> dict[str, str]:
    """Returns how far and how long a run trained, and its lowest validation error."""
    # Converted weights have a checkpoint, but no metrics.jsonl.
    if not run.lines:
        return {"trained": f"{run.step:,} steps"}
    epochs, errors = series(run.lines, "val/top1_error")
    last = run.lines[-1]
    found = {
        "trained": f"{last['epoch']:.4g} epochs, {last['step']:,} steps",
        "training time": duration(last["time"]),
    }
    if errors:
        best = int(np.argmin(errors))  # the first of equal ones, as the checkpoint that is kept
        lowest = f"{percent(errors[best])} after epoch {epochs[best]:.4g}"
        found = {"lowest validation error": lowest, **found}
    return found


def _identity(run: RunFacts) -> dict[str, str]:
    net, model, data = run.net, run.config.model, run.config.data
    towers = f"{net.towers} tower{'s' * (net.towers > 1)}"
    return {
        "net": f"{model.name}, width {model.width:g}, {towers}, {net.crop}×{net.crop} pixels",
        "parameters": f"{run.parameters:,}",
        "data": f"{data.name}, {model.num_classes:,} classes",
    }


def duration(seconds: float) -> str:
    """Returns a time in its two largest units, such as 2 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def setting_rows(runs: Sequence[RunFacts]) -> tuple[list[Row], list[Row]]:
    """Returns the settings in which the runs differ, and those that they share, by key."""
    # An empty text is shown as two quotes, which NONE is not.
    settings = [{key: str(value) or "''" for key, value in rules.flat(run.config)} for run in runs]
    keys = sorted({key for found in settings for key in found})  # of all runs: older ones lack some
    rows = [Row(key, tuple(found.get(key, NONE) for found in settings)) for key in keys]
    differing = [row for row in rows if len(set(row.values)) > 1]
    return differing, [row for row in rows if len(set(row.values)) == 1]


def environment_rows(runs: Sequence[RunFacts]) -> list[Row]:
    """Returns devices, machine and package versions of each run's last start."""
    names = dict.fromkeys(name for run in runs for name in run.environment)
    return [
        Row(name, tuple(str(run.environment.get(name, NONE)) for run in runs)) for name in names
    ]


def draw_validation(runs: Sequence[RunFacts]) -> Figure:
    """Draws the validation error of each run against epochs, in the run's `colour`."""
    with rc_context(SETTINGS):
        figure = Figure(figsize=(4.5, 3.0), layout="constrained")
        axes = figure.subplots()
        for place, run in enumerate(runs):
            epochs, errors = series(run.lines, "val/top1_error")
            axes.plot(epochs, [100 * error for error in errors], color=colour(place), lw=1.6)
        axes.set_xlabel("epoch")
        axes.set_ylabel("top-1 validation error (%)")
        axes.set_ylim(bottom=0)
    return figure


def colour(place: int) -> str:
    """Returns the colour of a run's line by its place in the list of runs."""
    return COLOURS[place % len(COLOURS)]


def shared_errors(runs: Sequence[RunFacts]) -> list[Row]:
    """Counts the pictures that each two runs both get wrong.

    Returns:
      A row for each run, and in it a count for each run. The list is empty unless several runs were
      evaluated on the same pictures.
    """
    found = [run.predictions for run in runs]
    if len(found) < 2 or None in found:
        return []
    # Of one data set, data.val_fraction decides how many pictures the validation split has.
    if len({(x.checksum, split_of(x.numbers), len(x.labels)) for x in found}) > 1:
        return []
    counts = mistakes.common_errors(np.stack([each.wrong for each in found]))
    pairs = zip(runs, counts, strict=True)
    return [Row(run.label, tuple(f"{count:,}" for count in row)) for run, row in pairs]
