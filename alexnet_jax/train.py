"""The training loop, and what comes before it and between its steps."""

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
from alexnet_jax.optim.schedules import plateau
from alexnet_jax.parallel import is_distributed, is_lead_process, reporting_folder
from alexnet_jax.runs.calendar import Calendar
from alexnet_jax.runs.checkpoint import Checkpoints, restore_params
from alexnet_jax.runs.finite import check_finite
from alexnet_jax.runs.metrics import Metrics
from alexnet_jax.runs.progress import Reporter
from alexnet_jax.runs.record import RunRecord, check_resumable, facts_of, random_generator
from alexnet_jax.runs.signals import Stop, Stopped
from alexnet_jax.runs.workdir import write_config
from alexnet_jax.session import Session, open_session
from alexnet_jax.step import TrainState


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
        if not is_distributed():  # several processes have to stop at the same place
            batches = stop.until(batches)
        return evaluate([predict], batches, len(split), config.eval.views)

    return validation


def make_after_validation(config: ConfigDict) -> Callable[..., TrainState]:
    """Returns a function that notes a validation in the state: (state, error, epoch_end) → state.

    At the end of an epoch the plateau schedule counts the error and may lower the rate. A
    validation inside an epoch, where a run ended and was continued, does not count: otherwise a
    run in pieces would not be the run in one piece.
    """
    # Jitted: otherwise optax's lax.cond is recompiled, and cached, at every validation.
    update = jax.jit(plateau(config.optim).update)

    def after_validation(state: TrainState, error: float, epoch_end: bool) -> TrainState:
        schedule = state.plateau
        if config.optim.schedule == "plateau" and epoch_end:
            _, schedule = update((), schedule, value=error)
        return state.replace(plateau=schedule, validated_step=state.step + 0)

    return after_validation


def restore_or_init(
    session: Session, checkpoints: Checkpoints, dataset: Dataset
) -> tuple[TrainState, RunRecord]:
    """Returns the state and the record to go on from: the first that there is of

    1. the newest intact checkpoint of the workdir,
    2. the parameters of config.init_from, with a fresh optimizer,
    3. random parameters from config.seed.

    Raises:
      UserError: a checkpoint does not fit the net, or the data set is not the run's.
    """
    abstract = session.initial_state.eval_shape()
    restored = checkpoints.restore(abstract)
    if restored is not None:
        check_resumable(restored.record, dataset)
        return restored.state, restored.record
    record = RunRecord(0.0, random_generator(), facts_of(dataset))
    if not session.config.init_from:
        return session.initial_state(), record
    params = restore_params(Path(session.config.init_from), abstract.params).params
    return session.initial_state().replace(params=params), record


def epoch_error(state: TrainState) -> float:
    """Returns the top-1 training error of the epoch so far; NaN at the very start."""
    return float(state.sums["errors"]) / max(1.0, float(state.sums["examples"]))


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
    check_finite(int(state.step), (state.params, state.opt_state))
    record = replace(record, seconds=reporter.sync())
    if not reporter.behind:
        mean = np.asarray(session.stats.mean)
        checkpoints.save(int(state.step), state, mean, record, error)


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
        config.train,
        first_step=step,
        seconds=record.seconds,
        steps_per_epoch=session.steps_per_epoch,
        total_steps=session.total_steps,
        lag=0 if session.devices.is_cpu else 1,
    )


def train(config: ConfigDict, dataset: Dataset, workdir: Path, stop: Stop) -> int:
    """Trains until the end, or until a signal; saves that state and returns its step.

    A checkpoint is saved before the next batch is taken, so that its step is the place in the data.
    """
    session = open_session(config, dataset)
    calendar = make_calendar(session)
    validation = make_validation(session, dataset, stop)
    after_validation = make_after_validation(config)
    keep, on_full_disk = config.checkpoint.keep, config.checkpoint.on_full_disk
    with Checkpoints(workdir, keep, on_full_disk) as checkpoints:
        state, record = restore_or_init(session, checkpoints, dataset)
        step, validated_step = int(state.step), int(state.validated_step)
        finished = is_finished(config, calendar, state)
        if finished and (validated_step == step or validation is None):
            print(f"{workdir} is finished at step {step}; evaluate it with --mode=eval")
            return step
        if is_lead_process():
            write_config(workdir, config)
        train_step = session.make_step()
        batches = session.batches(dataset.splits["train"], step)
        with open_reporter(session, workdir, state, record) as reporter:
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
                if due.validate and validation and validated_step != step:
                    try:
                        result = validation(state.params)
                    except Stopped:
                        due = replace(due, end=True)
                    else:
                        error, validated_step = result.top1_error, step
                        state = after_validation(state, error, calendar.is_epoch_end(step))
                        reporter.validation(step, result.values("val"))
                if due.save:
                    save(session, checkpoints, reporter, state, record, error)
                if due.end:
                    return step
                batch = next(batches)
                signal = session.devices.max_over_processes(stop.signal_number)
                state, scalars = train_step(state, batch)
                step += 1
                reporter.push(step, scalars)
