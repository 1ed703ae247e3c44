"""Error against the net's width and against the number of training pictures."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.errors import UserError
from alexnet_jax.figures.records import MAKE, read_number, record_folders
from alexnet_jax.figures.style import COLOURS, SETTINGS

NAME = re.compile(r"(width|pictures)_([\d.]+)_seed\d+")  # of a record's folder
ALL_PICTURES = 500.0  # of each class of Tiny-ImageNet
REFERENCE = {"width": 0.5, "pictures": ALL_PICTURES}  # of the runs ablations/reference_seed*
# Top-1 error of CaffeNet on ImageNet at 128 pixels, by width and by fraction of the pictures, in
# per cent: Mishkin et al., "Systematic evaluation of CNN advances on the ImageNet", 2017, and the
# tables of its repository ducha-aiki/caffenet-benchmark.
CAFFENET: Mapping[str, Mapping[float, float]] = {
    "width": {0.25: 74.4, 0.5: 58.4, 0.707: 54.0, 1.0: 52.9, 2.0: 46.7, 4.0: 43.7, 5.657: 43.5},
    "pictures": {0.167: 69.5, 0.333: 60.7, 0.5: 57.5, 0.667: 56.2, 1.0: 52.9},
}
TITLES = {"width": "width of the net", "pictures": "fraction of the training pictures"}
Errors = Mapping[str, Mapping[float, Sequence[float]]]


def read_scaling(records: Path) -> Errors:
    """Reads {"width" or "pictures": {width or fraction: top-1 errors of the seeds in per cent}}.

    Args:
      records: folder with scaling/RUN and ablations/reference_seed*.

    Raises:
      UserError: one of the two folders has no such record, or a record is broken.
    """
    found: dict[str, dict[float, list[float]]] = {"width": {}, "pictures": {}}
    runs: dict[tuple[str, float], list[Path]] = defaultdict(list)
    for record in record_folders(records / "scaling"):
        name = NAME.fullmatch(record.name)
        if name:
            runs[name[1], float(name[2])].append(record)
    ablations = record_folders(records / "ablations")
    references = [record for record in ablations if record.name.startswith("reference_seed")]
    for name, needed in (("scaling", runs), ("ablations", references)):
        if not needed:
            raise UserError(f"{records / name} has no records; {MAKE}")
    # The reference of the ablations is the same net: its point is not trained again.
    for kind, value in REFERENCE.items():
        runs[kind, value] = references
    for (kind, value), folders in sorted(runs.items()):
        x = value / ALL_PICTURES if kind == "pictures" else value
        errors = [read_number(folder, "1_views", "test/top1_error") for folder in folders]
        found[kind][x] = [100 * error for error in errors]
    return found


def draw_scaling(errors: Errors) -> Figure:
    """Draws a panel for the width and one for the pictures, beside CaffeNet's on ImageNet."""
    with rc_context(SETTINGS):
        figure = Figure(figsize=(8.4, 3.5), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (kind, points) in zip(panels, errors.items(), strict=True):
            _draw_panel(axes, kind, points)
        panels[0].set_ylabel("top-1 error in %")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _draw_panel(axes: Axes, kind: str, points: Mapping[float, Sequence[float]]) -> None:
    means = [mean(values) for values in points.values()]
    ours = "here: Tiny-ImageNet, 56 pixels; dashes: each seed"
    axes.plot(list(points), means, "o-", color=COLOURS[0], ms=4, label=ours)
    for x, values in points.items():
        if len(values) > 1:  # the point is their mean
            axes.plot([x] * len(values), values, "_", color=COLOURS[0], ms=9)
    theirs = CAFFENET[kind]
    label = "CaffeNet, ImageNet, 128 pixels (Mishkin et al.)"
    axes.plot(list(theirs), list(theirs.values()), "s--", color=COLOURS[1], ms=3, label=label)
    axes.set_xscale("log", base=2)
    ticks = sorted({x for x in (*points, *theirs) if x in (0.1, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)})
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.set_xlabel(TITLES[kind])
