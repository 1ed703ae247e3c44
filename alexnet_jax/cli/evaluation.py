"""Evaluates checkpoints, prints the result and writes it to eval.json."""

import json
from pathlib import Path

from alexnet_jax import parallel
from alexnet_jax.cli.checks import Run
from alexnet_jax.data import open_dataset
from alexnet_jax.durable import write_text
from alexnet_jax.evaluate import evaluate_checkpoints, write_probabilities, write_submission


def evaluate_and_write(run: Run, probabilities: str, submission: str) -> None:
    """Evaluates run.checkpoints and writes eval.json and, if paths are given, the two files.

    eval.json holds the numbers, the data set's name, how many checkpoints they are of, and the
    newest one's step.
    """
    split = open_dataset(run.config.data).splits[run.split]
    result, steps = evaluate_checkpoints(run.config, run.checkpoints, split)
    if not parallel.is_lead_process():
        return
    about = {"step": max(steps), "members": len(steps), "data": run.config.data.name}
    numbers = {**about, **result.values(run.split)}
    text = json.dumps(numbers, indent=2)
    print(text)
    run.workdir.mkdir(parents=True, exist_ok=True)
    write_text(run.workdir / "eval.json", text + "\n")
    if probabilities:
        write_probabilities(Path(probabilities), result)
    if submission:
        write_submission(Path(submission), result)
