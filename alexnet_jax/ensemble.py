"""Evaluates checkpoints on a data set: one, or several whose probabilities are averaged."""

import json
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax import parallel
from alexnet_jax.cli.checks import Run
from alexnet_jax.data import open_dataset
from alexnet_jax.durable import write_text
from alexnet_jax.evaluate import (
    Evaluation,
    averaged,
    batches_on_mesh,
    evaluate,
    view_probabilities,
    write_probabilities,
    write_submission,
)
from alexnet_jax.runs.restore import input_pixels, load_on
from alexnet_jax.runs.workdir import good_step, step_folder, workdir_of


def evaluate_checkpoints(
    config: ConfigDict, paths: Sequence[Path], split: str
) -> tuple[Evaluation, list[int]]:
    """Exact errors of the checkpoints' averaged probabilities over every image of `split`.

    Each checkpoint brings its own net and input scale; config gives the data and eval.views.
    Returns the evaluation and the checkpoints' steps.
    """
    images = open_dataset(config.data).splits[split]
    layout = parallel.layout_of(config.parallel)
    mesh, members = parallel.make_mesh(layout), []
    steps = [good_step(path) for path in paths]  # a training that goes on may save newer ones
    for path, step in zip(paths, steps, strict=True):
        model, variables, own = load_on(step_folder(workdir_of(path), step), mesh, layout)
        probabilities = view_probabilities(model, mesh, layout)
        pixels = parallel.everywhere(input_pixels(variables, own), mesh)
        members.append(averaged(probabilities, variables["params"], pixels, config.eval.views))
    batches = batches_on_mesh(config, images, mesh)
    result = evaluate(members, batches, len(images), config.eval.views)
    return result, steps


def evaluate_and_write(run: Run, probabilities: str, submission: str) -> None:
    """Evaluates run.checkpoints; writes eval.json and, where a path is given, the two files.

    eval.json holds the numbers, how many checkpoints they are of, and the newest one's step.
    """
    result, steps = evaluate_checkpoints(run.config, run.checkpoints, run.split)
    if not parallel.is_first_process():
        return
    numbers = {"step": max(steps), "members": len(steps), **result.values(run.split)}
    text = json.dumps(numbers, indent=2)
    print(text)
    run.workdir.mkdir(parents=True, exist_ok=True)
    write_text(run.workdir / "eval.json", text + "\n")
    if probabilities:
        write_probabilities(Path(probabilities), result)
    if submission:
        write_submission(Path(submission), result)
