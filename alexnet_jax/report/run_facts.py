"""The facts of a run for its report, read from the files in its workdir."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.errors import UserError
from alexnet_jax.figures.kernels import first_convolution
from alexnet_jax.nets.shapes import without_statistics
from alexnet_jax.nets.spec import Net
from alexnet_jax.runs.machine import ENVIRONMENT
from alexnet_jax.runs.metrics import FILE as METRICS
from alexnet_jax.runs.metrics import read_lines
from alexnet_jax.runs.predictions import Predictions, read_evaluation, read_predictions
from alexnet_jax.runs.workdir import good_step, step_folder
from alexnet_jax.weights.loading import load


@dataclass(frozen=True, eq=False)
class RunFacts:
    """A run as it stands in its workdir.

    Attributes:
      label: its name in the report.
      workdir: its folder.
      config: resolved.
      step: of its newest intact checkpoint.
      net: resolved.
      parameters: number of parameters that gradients move.
      kernel: float32 [towers, size, size, 3, maps], the first convolution's weights; None for a net
        without convolutions.
      lines: of metrics.jsonl; none for converted weights.
      numbers: the content of eval.json; {} if the run was not evaluated.
      predictions: of the evaluation in eval.json; None if predictions.npz is missing or of another
        evaluation.
      environment: the content of environment.json; {} if there is none.
    """

    label: str
    workdir: Path
    config: ConfigDict
    step: int
    net: Net
    parameters: int
    kernel: np.ndarray | None
    lines: Sequence[Mapping[str, float]]
    numbers: Mapping[str, Any]
    predictions: Predictions | None
    environment: Mapping[str, Any]


def read_run(label: str, workdir: Path) -> RunFacts:
    """Reads a run's newest intact checkpoint and the files beside it.

    Raises:
      UserError: a file that is broken.
    """
    numbers = read_evaluation(workdir)
    predictions = read_predictions(workdir)
    if predictions and predictions.numbers != numbers:
        predictions = None  # of an earlier evaluation
    metrics = workdir / METRICS
    lines = read_lines(metrics) if metrics.is_file() else ()
    environment = _read_environment(workdir / ENVIRONMENT)
    # The step is chosen once: a training that goes on may save a newer one meanwhile.
    step = good_step(workdir)
    model, variables, config = load(step_folder(workdir, step))
    params, first = variables["params"], first_convolution(model.net)
    return RunFacts(
        label=label,
        workdir=workdir,
        config=config,
        step=step,
        net=model.net,
        parameters=sum(x.size for x in jax.tree.leaves(without_statistics(params))),
        kernel=np.asarray(params[first]["kernel"]) if first else None,
        lines=lines,
        numbers=numbers,
        predictions=predictions,
        environment=environment,
    )


def _read_environment(path: Path) -> dict[str, Any]:
    """Returns the content of environment.json; {} if there is no file."""
    if not path.is_file():
        return {}
    try:
        return {**json.loads(path.read_text(encoding="utf-8"))}
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it, or write it again") from error
