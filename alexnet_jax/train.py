"""The training loop, its preparation, and the work between two steps."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import Dataset
from alexnet_jax.evaluate import (
    Evaluation,
    batches_on_devices,
    evaluate,
    make_predict,
    make_view_probabilities,
)
from alexnet_jax.nets.model import build_model
from alexnet_jax.optim.schedules import plateau
from alexnet_jax.parallel import is_distributed, is_lead_process, reporting_folder
from alexnet_jax.runs.announce import data_line, device_lines, net_line
from alexnet_jax.runs.calendar import Calendar
from alexnet_jax.runs.checkpoint import Checkpoints, restore_params
from alexnet_jax.runs.finite import check_state
from alexnet_jax.runs.machine import write_environment
from alexnet_jax.runs.metrics import Metrics
from alexnet_jax.runs.progress import Reporter, with_progress
from alexnet_jax.runs.record import (
    DataFacts,
    RunRecord,
    check_resumable,
    data_difference,
    facts_of,
    random_generator,
)
from alexnet_jax.runs.restore import abstract_params
from alexnet_jax.runs.signals import Stop, Stopped
from alexnet_jax.runs.workdir import read_config, write_config
from alexnet_jax.session import Session, open_session
from alexnet_jax.step import TrainState, evaluated_params, swap_average, with_params


def make_validation(
    session: Session, dataset: Dataset, stop: Stop
) -> Callable[[Any], Evaluation] | None:
    """Returns a function that evaluates parameters on the validation split; None without one.

    It raises Stopped if a signal asks the run to stop.
    """
    if "val" not in dataset.splits:
        return None
    config, split = session.config, dataset.splits["val"]
    view_probabilities = make_view_probabilities(session.model, session.devices)

    def validation(params: Any) -> Evaluation:
        predict = make_predict(view_probabilities, params, session.stats, config.eval.views)
        batches = batches_on_devices(config, split, session.devices)
        batches = with_progress(batches, len(split), config.eval.batch_size, "validation")
        if not is_distributed():  # several processes have to stop at the same place
            batches = stop.until(batches)
        return evaluate([predict], batches, len(split), config.eval.views)

    return validation


def make_after_validation(config: ConfigDict) -> Callable[[TrainState, float, bool], TrainState]:
    """Returns a function that notes a validation in the state: (state, error, regular) → state.

    The plateau schedule counts the error, and may lower the rate, if the validation is regular:
    one that a training of any length makes at this step. The one at the end of a training that is
    continued later does not count, so that a run in pieces is the run in one piece.
    """
    # Jitted: otherwise optax's lax.cond is recompiled, and cached, at every validation.
    update = jax.jit(plateau(config.optim).update)

    def after_validation(state: TrainState, error: float, regular: bool) -> TrainState:
        schedule = state.plateau
        if config.optim.schedule == "plateau" and regular:
            _, schedule = update((), schedule, value=error)
        # + 0 copies: the step donates its state, and no buffer can be donated twice.
        return state.replace(plateau=schedule, validated_step=state.step + 0)

    return after_validation


def make_validate(
    config: ConfigDict,
    calendar: Calendar,
    validation: Callable[[Any], Evaluation] | None,
    reporter: Reporter,
) -> Callable[[TrainState], tuple[TrainState, float | None]]:
    """Returns a function that validates a state, unless it is validated already.

    It reports the result and returns the state that knows of it, and the top-1 error; None if
    nothing was evaluated. It raises Stopped as `validation` does.
    """
    after_validation = make_after_validation(config)

    def validate(state: TrainState) -> tuple[TrainState, float | None]:
        if validation is None or is_validated(state):
            return state, None
        step, result = int(state.step), validation(evaluated_params(state))
        reporter.validation(step, result.values("val"))
        error, regular = result.top1_error, calendar.is_regular_validation(step)
        return after_validation(state, error, regular), error

    return validate


def restore_or_init(
    session: Session, checkpoints: Checkpoints, dataset: Dataset
) -> tuple[Session, TrainState, RunRecord]:
    """Returns the state and the record to train on from, which are those of the first that exists:

    1. the newest intact checkpoint of the workdir,
    2. the parameters of config.init_from, with a fresh optimizer,
    3. random parameters from config.seed.

    The session is returned with the mean of that checkpoint, which its parameters are made for;
    without one, as it is, with the mean of the data set.

    Raises:
      UserError: a checkpoint does not fit the net, or the data set is not the run's.
    """
    abstract = session.initial_state.eval_shape()
    restored, facts = checkpoints.restore(abstract), facts_of(dataset)
    if restored is not None:
        check_resumable(restored.record, facts)
        record = replace(restored.record, data=facts)
        return session.with_mean(restored.mean), swap_average(restored.state), record
    state, record = session.initial_state(), RunRecord(0.0, random_generator(), facts)
    if session.config.init_from:
        params, mean = params_to_start_from(session, state.params, facts)
        session, state = session.with_mean(mean), with_params(state, params)
    return session, state, record


def params_to_start_from(session: Session, drawn: Any, facts: DataFacts) -> tuple[Any, np.ndarray]:
    """Returns the parameters and the mean of the checkpoint that config.init_from names.

    If it has another number of classes than the data, the classifier is that of `drawn`.

    Args:
      session: of the run.
      drawn: parameters drawn from config.seed.
      facts: of the data set.

    Raises:
      UserError: the checkpoint is of another net.
    """
    path, config = Path(session.config.init_from), ConfigDict(session.config)
    config.model = ConfigDict({**config.model, "num_classes": read_config(path).model.num_classes})
    abstract = abstract_params(build_model(config), session.devices)
    restored = restore_params(path, abstract)
    print(f"starting from the parameters of {path}, step {restored.step}, and its input mean")
    trained_on = restored.record.data
    difference = trained_on and data_difference(trained_on, facts, "class_names")
    if difference:
        print(f"its data set was {trained_on.name!r}, now it is {facts.name!r}: {difference}")
    if config.model.num_classes == session.config.model.num_classes:
        return restored.params, restored.mean
    classifier = session.model.net.layers[-1].name
    print(f"{classifier} is drawn anew, for {session.config.model.num_classes} classes")
    return {**restored.params, classifier: drawn[classifier]}, restored.mean


def epoch_error(state: TrainState) -> float:
    """Returns the top-1 training error of the epoch so far; 0 before its first step."""
    return float(state.sums["errors"]) / max(1.0, float(state.sums["examples"]))


def is_validated(state: TrainState) -> bool:
    """True if the state was validated at its own step."""
    return int(state.validated_step) == int(state.step)


def is_finished(config: ConfigDict, calendar: Calendar, state: TrainState) -> bool:
    """True if a restored state is the end of the training that the config describes."""
    step = int(state.step)
    reached = calendar.is_epoch_end(step) and epoch_error(state) <= config.train.stop_at_train_error
    return step >= calendar.total_steps or (config.train.stop_at_train_error > 0 and reached)


def save(
    session: Session,
    checkpoints: Checkpoints,
    reporter: Reporter,
    state: TrainState,
    record: RunRecord,
    error: float | None,
) -> None:
    """Saves a finite state once metrics.jsonl is on the disk up to its step."""
    check_state(int(state.step), (state.params, state.opt_state))
    record = replace(record, seconds=reporter.sync())
    if not reporter.behind:
        mean = np.asarray(session.stats.mean)
        checkpoints.save(int(state.step), swap_average(state), mean, record, error)


def make_calendar(session: Session) -> Calendar:
    """Returns the run's calendar."""
    config = session.config
    return Calendar(
        steps_per_epoch=session.steps_per_epoch,
        total_steps=session.total_steps,
        validate_every=session.steps_per_epoch * config.eval.every_epochs,
        save_every=config.checkpoint.every_steps,
    )


def open_reporter(
    session: Session, workdir: Path, state: TrainState, record: RunRecord
) -> Reporter:
    """Returns the reporter of a run that goes on from this state."""
    config, step = session.config, int(state.step)
    folder = reporting_folder(workdir)
    metrics = Metrics(folder, step, int(state.validated_step), config.checkpoint.on_full_disk)
    return Reporter(
        metrics,
        config,
        first_step=step,
        seconds=record.seconds,
        steps_per_epoch=session.steps_per_epoch,
        total_steps=session.total_steps,
        lag=0 if session.devices.is_cpu else 1,
    )


def print_start(session: Session, dataset: Dataset, state: TrainState) -> None:
    """Prints what the training starts with: devices, net, data, and the step if it is resumed."""
    net, step = session.model.net, int(state.step)
    lines = [
        *device_lines(session.devices),
        net_line(session.config.model.name, net, state.params),
        data_line(dataset),
    ]
    if step:
        lines.append(f"resumed from step {step} of {session.total_steps}")
    if step < session.total_steps:
        lines.append("compiling the training step")
    print(*lines, sep="\n", flush=True)


def train(config: ConfigDict, dataset: Dataset, workdir: Path, stop: Stop) -> int:
    """Trains until the end, or until a signal; saves that state and returns its step.

    A checkpoint is saved before the next batch is taken, so that its step is the place in the data.
    Nothing is written before the state is restored or made.
    """
    session = open_session(config, dataset)
    calendar = make_calendar(session)
    keep, on_full_disk = config.checkpoint.keep, config.checkpoint.on_full_disk
    with Checkpoints(workdir, keep, on_full_disk) as checkpoints:
        session, state, record = restore_or_init(session, checkpoints, dataset)
        train_step, validation = session.make_step(), make_validation(session, dataset, stop)
        step, finished = int(state.step), is_finished(config, calendar, state)
        # Before anything is printed or written: a finished run is left as it is.
        if finished and (validation is None or is_validated(state)):
            return step
        print_start(session, dataset, state)
        if is_lead_process():
            write_config(workdir, config)
            write_environment(workdir, session.devices)
        batches = session.batches(dataset.splits["train"], step)
        with open_reporter(session, workdir, state, record) as reporter:
            validate = make_validate(config, calendar, validation, reporter)
            signal = session.devices.max_over_processes(stop.signal_number)
            while True:
                checkpoints.poll()
                # Read once a step, so that the step that is saved is the one that was flushed.
                due = calendar.due(
                    step,
                    stopping=stop.adopt(signal()),
                    reached_target=finished or reporter.reached_target(step),
                )
                error = None
                if due.flush:
                    reporter.flush()
                try:
                    if due.validate:
                        state, error = validate(state)
                except Stopped:
                    due = replace(due, end=True)
                if due.save:
                    save(session, checkpoints, reporter, state, record, error)
                if due.end:
                    return step
                batch = next(batches)
                signal = session.devices.max_over_processes(stop.signal_number)
                state, scalars = train_step(state, batch)
                step += 1
                reporter.push(step, scalars)
