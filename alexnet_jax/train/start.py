"""The start of a training: its state, from a checkpoint, other parameters or random ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import Dataset
from alexnet_jax.nets.model import build_model
from alexnet_jax.parallel import is_distributed, is_lead_process
from alexnet_jax.runs.announce import data_line, device_lines, net_line, unlearned_lines
from alexnet_jax.runs.checkpoint import Checkpoints, restore_params
from alexnet_jax.runs.machine import write_environment
from alexnet_jax.runs.record import (
    DataFacts,
    RunRecord,
    check_resumable,
    check_same_checkpoints,
    data_difference,
    facts_of,
    random_generator,
)
from alexnet_jax.runs.restore import abstract_params
from alexnet_jax.runs.workdir import (
    find_good,
    read_config,
    step_folder,
    workdir_of,
    write_config,
)
from alexnet_jax.train.session import Session
from alexnet_jax.train.step import TrainState, swap_average, with_params


def restore_or_init(
    session: Session, checkpoints: Checkpoints, dataset: Dataset
) -> tuple[Session, TrainState, RunRecord]:
    """Returns the session, the state and the record to train on from.

    The state is the first of these that exists:

    1. the newest intact checkpoint of the workdir,
    2. the parameters of config.init_from, with a fresh optimizer,
    3. random parameters from config.seed.

    In the first two cases the session is returned with the mean image of that checkpoint, because
    the parameters were trained with it. In the third case it is returned unchanged, with the mean
    image of the data set.

    Raises:
      UserError: a checkpoint does not fit the net, or the data set is not the run's.
    """
    abstract = session.initial_state.eval_shape()
    restored, facts = checkpoints.restore(abstract), facts_of(dataset)
    if restored is not None:
        check_resumable(restored.record, facts)
        record = replace(restored.record, data=facts)
        # A run that began with init_from has that checkpoint's mean, not that of its own data set.
        # A checkpoint holds the average in the place of the parameters: swapped back to train on.
        return session.with_mean(restored.mean), swap_average(restored.state), record
    state, record = session.initial_state(), RunRecord(0.0, random_generator(), facts)
    if session.config.init_from:
        params, mean = params_to_start_from(session, state.params, facts)
        session, state = session.with_mean(mean), with_params(state, params)
    return session, state, record


def params_to_start_from(session: Session, drawn: Any, facts: DataFacts) -> tuple[Any, np.ndarray]:
    """Returns the parameters and the mean image of the checkpoint that config.init_from names.

    The checkpoint's classifier is taken if its classes are those of the data, or if only their
    number is known, as of converted weights, and is the same. Otherwise it is that of `drawn`.

    Args:
      session: of the run.
      drawn: parameters drawn from config.seed.
      facts: of the data set.

    Raises:
      UserError: the checkpoint is of another net, or another one for some processes of the run.
    """
    path, config = Path(session.config.init_from), ConfigDict(session.config)
    # One process has nothing to compare, and finding the step reads the files of the checkpoint.
    if is_distributed():
        found = step_folder(workdir_of(path), find_good(path)[0])
        check_same_checkpoints(session.devices, [found])
    # Restored with the checkpoint's own number of classes, so that the shapes of fc8 fit.
    config.model = ConfigDict({**config.model, "num_classes": read_config(path).model.num_classes})
    abstract = abstract_params(build_model(config), session.devices)
    restored = restore_params(path, abstract)
    print(f"starting from the parameters of {path}, step {restored.step}, and its input mean")
    trained_on = restored.record.data
    # Printed, not refused: fine-tuning is for other classes, but a mix-up should be noticed.
    difference = trained_on and data_difference(trained_on, facts, "class_names")
    if difference:
        print(
            f"this run's data set, {facts.name!r}, is not the one that it was trained on, "
            f"{trained_on.name!r}: {difference}"
        )
    # Units of other classes are no start for these, even if they are as many.
    if not difference and config.model.num_classes == session.config.model.num_classes:
        return restored.params, restored.mean
    classifier = session.model.net.layers[-1].name
    print(f"{classifier} is drawn anew, for {session.config.model.num_classes} classes")
    return {**restored.params, classifier: drawn[classifier]}, restored.mean


def print_start(session: Session, dataset: Dataset, state: TrainState) -> None:
    """Prints what the training starts with: devices, net, data, and the step if it is resumed."""
    net, step = session.model.net, int(state.step)
    lines = [
        *device_lines(session.devices),
        net_line(session.config.model.name, net, state.params),
        data_line(dataset),
        *unlearned_lines(dataset),
    ]
    if step:
        lines.append(f"resumed from step {step} of {session.total_steps}")
    if step < session.total_steps:
        lines.append("compiling the training step")
    print(*lines, sep="\n", flush=True)


def record_start(session: Session, dataset: Dataset, workdir: Path, state: TrainState) -> None:
    """Prints what the training starts with, and writes config.json and environment.json."""
    print_start(session, dataset, state)
    if is_lead_process():
        write_config(workdir, session.config)
        write_environment(workdir, session.devices)
