"""Evaluates checkpoints on a data set: one, or several whose probabilities are averaged."""

import json
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax import parallel
from alexnet_jax.checkpoint import step_of
from alexnet_jax.data import open_dataset
from alexnet_jax.data.pipeline import evaluation_batches
from alexnet_jax.evaluate import Evaluation, averaged, evaluate, view_probabilities
from alexnet_jax.restore import input_pixels, load_on


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
    for path in paths:
        model, variables, own = load_on(path, mesh, layout)
        probabilities = view_probabilities(model, mesh, layout)
        pixels = parallel.put(input_pixels(variables, own), mesh, parallel.EVERYWHERE)
        members.append(averaged(probabilities, variables["params"], pixels, config.eval.views))
    batches = evaluation_batches(
        images, config.eval.batch_size, device_bytes=config.data.device_megabytes * 10**6
    )
    result = evaluate(members, batches, len(images), config.eval.views)
    return result, [step_of(path) for path in paths]


def write_result(path: Path, result: Evaluation, split: str, steps: Sequence[int]) -> str:
    """Writes eval.json and returns its text; `step` is the (newest) checkpoint's."""
    text = json.dumps({"step": max(steps), "members": len(steps), **result.values(split)}, indent=2)
    path.write_text(text + "\n")
    return text
