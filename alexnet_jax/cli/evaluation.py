"""An evaluation of checkpoints on a split: its run, its table, and the files that it writes."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import parallel
from alexnet_jax.cli.checks import Run
from alexnet_jax.cli.tables import percent, text_table, wrap
from alexnet_jax.data import Dataset, Split, open_dataset
from alexnet_jax.data.store import image_names
from alexnet_jax.disk.durable import write_text
from alexnet_jax.evaluate import (
    Evaluation,
    evaluate_checkpoints,
    write_probabilities,
    write_submission,
)
from alexnet_jax.runs.announce import data_line, device_lines
from alexnet_jax.runs.predictions import Predictions, split_of, write_predictions
from alexnet_jax.runs.record import check_agreement, check_evaluable, facts_of, read_record
from alexnet_jax.runs.workdir import EVALUATION, PREDICTIONS
from alexnet_jax.runs.workdir import steps as steps_of

Numbers = Mapping[str, Any]


def evaluate_and_write(run: Run, probabilities: str, submission: str) -> None:
    """Evaluates run.checkpoints; writes eval.json, predictions.npz and, if named, two more files.

    eval.json holds the loss, the errors, the data set's name, the number of checkpoints and the
    step of the newest one. predictions.npz holds the likeliest classes of every picture.

    Args:
      run: the validated request.
      probabilities: path of an .npz for the probabilities of all classes; "" = none.
      submission: path of a text file for the five likeliest classes of each picture; "" = none.

    Raises:
      UserError: a checkpoint was trained on data that contradict the evaluation.
    """
    dataset = open_dataset(run.config.data)
    records = {path: read_record(path) for path in run.checkpoints}
    facts = facts_of(dataset)
    differences = [check_evaluable(*x, facts, run.split) for x in records.items()]
    notes = map(wrap, filter(None, (*run.notes, *differences)))
    devices = parallel.make_devices(parallel.layout_of(run.config.parallel))
    check_agreement(devices, run.config, facts)
    print(*device_lines(devices), data_line(dataset), *notes, sep="\n", flush=True)
    split = dataset.splits[run.split]
    result, steps = evaluate_checkpoints(run.config, devices, run.checkpoints, split)
    if not parallel.is_lead_process():  # every process has all predictions; one writes
        return
    about = {"step": max(steps), "members": len(steps), "data": run.config.data.name}
    numbers = {**about, **result.values(run.split)}
    print(result_table(numbers))
    write_result(run.workdir / EVALUATION, numbers)
    write_predictions(run.workdir, predictions_of(result, numbers, run.config.data, dataset, split))
    print(f"classes of every picture: {run.workdir / PREDICTIONS}")
    if steps_of(run.workdir):  # an ensemble's folder need not be a run's
        print(f"to see them: python -m alexnet_jax.report --workdir={run.workdir}")
    for file, write in ((probabilities, write_probabilities), (submission, write_submission)):
        if file:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            write(Path(file), result)


def predictions_of(
    result: Evaluation, numbers: Numbers, data: ConfigDict, dataset: Dataset, split: Split
) -> Predictions:
    """Returns the predictions of an evaluation, with the pictures' names.

    Args:
      result: of the evaluation.
      numbers: the content of eval.json.
      data: the settings that open the data set.
      dataset, split: that were evaluated.
    """
    classes, rows = result.likeliest, np.arange(len(result.labels))
    return Predictions(
        names=np.array(image_names(split)),
        labels=result.labels.astype(np.int32),
        classes=classes.astype(np.int32),
        probabilities=np.take_along_axis(result.probabilities, classes, axis=1),
        label_probabilities=result.probabilities[rows, result.labels],
        class_names=np.array(dataset.class_names),
        numbers=numbers,
        data=data.to_dict(),
        checksum=dataset.checksum,
    )


def title(numbers: Numbers) -> str:
    """Describes a result in words: its net or nets, its data and its views."""
    split = split_of(numbers)
    views = numbers[f"{split}/views"]
    members = numbers["members"]
    net = f"step {numbers['step']}" if members == 1 else f"mean of {members} nets"
    return f"{net}, {split} split of {numbers['data']}, {views} view{'s' * (views > 1)}"


def result_table(numbers: Numbers) -> str:
    """Returns a result for a person, with errors in percent."""
    split = split_of(numbers)
    rows = (
        ("images", f"{numbers[f'{split}/examples']:,}"),
        ("top-1 error", percent(numbers[f"{split}/top1_error"])),
        ("top-5 error", percent(numbers[f"{split}/top5_error"])),
        ("loss", f"{numbers[f'{split}/loss']:.4f}"),
    )
    return f"{title(numbers)}\n{text_table(rows)}"


def write_result(path: Path, numbers: Numbers) -> None:
    """Writes eval.json and prints its path, and the title of a result that it replaces."""
    replaced = ""
    # A file of an older version or of the user can lack any of this, and is replaced too.
    with contextlib.suppress(OSError, ValueError, LookupError, StopIteration, TypeError):
        earlier = title(json.loads(path.read_text(encoding="utf-8")))
        if earlier != title(numbers):
            replaced = f" (in place of: {earlier})"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(numbers, indent=2) + "\n")
    print(f"written to {path}{replaced}")
