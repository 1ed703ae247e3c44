"""The page of a report, rendered from its template and the facts of the runs."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from alexnet_jax.cli.tables import percent
from alexnet_jax.figures.curves import draw_curves
from alexnet_jax.figures.kernels import mosaic, to_pictures
from alexnet_jax.report import comparison
from alexnet_jax.report.embedded_images import figure_uri, png_uri
from alexnet_jax.report.evaluation_view import EvaluationView, view_of
from alexnet_jax.report.run_facts import RunFacts

KERNEL_COLUMNS = 16
MOST_PICTURES, MOST_OF_SEVERAL = 24, 12  # misclassified pictures of one run, of each of several

NOT_EVALUATED = "This run has not been evaluated."
OTHER_PREDICTIONS = "The predictions of this run's evaluation were not kept."


@dataclass(frozen=True)
class RunView:
    """A run's own parts of the page.

    Attributes:
      label: its name.
      colour: of its line in the comparison.
      curves, narrow_curves: URIs of the training curves, in two columns and in one; "" without.
      towers: URI of each tower's kernels; () for a net without convolutions.
      kernels: number of kernels in a row.
      evaluation: parts on its evaluation; None if there are no predictions of one.
      missing: the reason why there are none.
      command: the command that makes the predictions.
    """

    label: str
    colour: str
    curves: str
    narrow_curves: str
    towers: tuple[str, ...]
    kernels: int
    evaluation: EvaluationView | None
    missing: str
    command: str


def page(runs: Sequence[RunFacts]) -> str:
    """Returns the HTML page about these runs."""
    environment = Environment(
        loader=PackageLoader("alexnet_jax", "report"),
        autoescape=True,  # names of classes, files and runs are their users'
        undefined=StrictUndefined,  # a misspelt name in the template is an error, not an empty text
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    differing, common = comparison.setting_rows(runs)
    several = len(runs) > 1
    return environment.get_template("page.html").render(
        title=", ".join(run.label for run in runs),
        runs=[run_view(run, place, several) for place, run in enumerate(runs)],
        numbers=comparison.number_rows(runs),
        validation=figure_uri(comparison.draw_validation(runs)) if several else "",
        shared_errors=comparison.shared_errors(runs),
        differing=differing,
        common=common,
        environment=comparison.environment_rows(runs),
    )


def run_view(run: RunFacts, place: int, several: bool) -> RunView:
    """Returns a run's own parts of the page.

    Args:
      run: the run.
      place: its place in the list of runs.
      several: the page is about several runs; the curves are then in one column.
    """
    evaluate = f"python -m alexnet_jax.main --mode=eval --workdir={shlex.quote(str(run.workdir))}"
    most = MOST_OF_SEVERAL if several else MOST_PICTURES

    def curves(columns: int) -> str:
        return figure_uri(draw_curves(run.lines, "", columns)) if run.lines else ""

    narrow = curves(1)  # for the screen of a telephone, see page.html
    return RunView(
        label=run.label,
        colour=comparison.colour(place),
        curves=narrow if several else curves(2),
        narrow_curves=narrow,
        towers=() if run.kernel is None else tuple(map(kernels_uri, run.kernel)),
        kernels=0 if run.kernel is None else min(KERNEL_COLUMNS, run.kernel.shape[-1]),
        evaluation=view_of(run.predictions, most) if run.predictions else None,
        missing=OTHER_PREDICTIONS if run.numbers else NOT_EVALUATED,
        command=evaluate,
    )


def kernels_uri(kernels: np.ndarray) -> str:
    """Returns the kernels of one tower, float32 [size, size, 3, maps], as a mosaic."""
    sheet = mosaic(to_pictures(kernels), min(KERNEL_COLUMNS, kernels.shape[-1]))
    return png_uri(np.rint(255 * sheet).astype(np.uint8))
