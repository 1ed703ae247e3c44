"""The training loop: its preparation, its order of work, and the saving of its state."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import Dataset
from alexnet_jax.parallel import reporting_folder
from alexnet_jax.runs.calendar import Calendar
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.finite import check_state
from alexnet_jax.runs.metrics import Metrics
from alexnet_jax.runs.progress import Reporter
from alexnet_jax.runs.record import RunRecord, check_agreement, check_same_checkpoints, facts_of
from alexnet_jax.runs.signals import Stop, Stopped
from alexnet_jax.runs.workdir import step_folder, steps
from alexnet_jax.train.session import Session, open_session
from alexnet_jax.train.start import record_start, restore_or_init
from alexnet_jax.train.step import TrainState, swap_average
from alexnet_jax.train.validate import is_validated, make_validate, make_validation


def epoch_error(state: TrainState) -> float:
    """Returns the top-1 training error, a fraction, of the epoch so far; 0 before its first step.

    It waits for the step that computes the state.
    """
    return float(state.sums["errors"]) / max(1.0, float(state.sums["examples"]))


def reached_target(config: ConfigDict, calendar: Calendar, state: TrainState, step: int) -> bool:
    """True if an epoch ends at `step`, the state's, with train.stop_at_train_error or less.

    Counts are divided on the host: in float32, a tenth of the images is more than an error of 0.1.
    """
    target = config.train.stop_at_train_error
    return target > 0 and calendar.is_epoch_end(step) and epoch_error(state) <= target


def is_finished(config: ConfigDict, calendar: Calendar, state: TrainState) -> bool:
    """True if a restored state is the end of the training that the config describes.

    The end is the last step, or the end of an epoch at the training error to stop at.
    """
    step = int(state.step)
    return step >= calendar.total_steps or reached_target(config, calendar, state, step)


def save(
    session: Session,
    checkpoints: Checkpoints,
    reporter: Reporter,
    state: TrainState,
    record: RunRecord,
    error: float | None,
) -> None:
    """Saves a finite state once metrics.jsonl is on the disk up to its step.

    Args:
      session: of the run; its mean image is saved with the state.
      checkpoints, reporter: of the run.
      state: to save; its parameters are swapped with their average (`swap_average`).
      record: of the run so far.
      error: top-1 validation error at this step; None if it was not validated.

    Raises:
      UserError: the state is not finite, or the disk is full.
    """
    # A step's loss is that of the parameters before the step: a finite loss does not show that the
    # update was finite.
    check_state(int(state.step), (state.params, state.opt_state))
    record = replace(record, seconds=reporter.sync())
    # On a full disk, lines of metrics.jsonl wait in memory. If this step were saved and the run
    # resumed from it, those lines would never be written.
    if not reporter.behind:
        # The mean belongs to the parameters: with another mean, the net sees other inputs.
        mean = np.asarray(session.stats.mean)
        checkpoints.save(int(state.step), swap_average(state), mean, record, error)


def make_calendar(session: Session) -> Calendar:
    """Returns the calendar of the run: its length, and the steps that are validated and saved."""
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
        # A GPU computes a step while the host reports the one before. A CPU has no such overlap.
        lag=0 if session.devices.is_cpu else 1,
    )


def train(config: ConfigDict, dataset: Dataset, workdir: Path, stop: Stop) -> int:
    """Trains until the end, or until a signal; saves the last state and returns its step.

    A checkpoint is saved before the next batch is taken, so that its step is also the number of the
    batch to go on with. Nothing is written before the state is restored or made.

    Args:
      config: resolved and checked.
      dataset: with its splits 'train' and, unless data.val_fraction is 0, 'val'.
      workdir: of the run.
      stop: has noted the signals that arrived.

    Raises:
      UserError: a checkpoint does not fit, the processes of the run differ, the state is no longer
        finite, or the disk is full.
    """
    session = open_session(config, dataset)
    check_agreement(session.devices, config, facts_of(dataset))
    check_same_checkpoints(session.devices, (step_folder(workdir, x) for x in steps(workdir)))
    calendar = make_calendar(session)
    keep, on_full_disk = config.checkpoint.keep, config.checkpoint.on_full_disk
    with Checkpoints(workdir, keep, on_full_disk) as checkpoints:
        session, state, record = restore_or_init(session, checkpoints, dataset)
        train_step, validation = session.make_step(), make_validation(session, dataset, stop)
        step, validated = int(state.step), validation is None or is_validated(state)
        # Before anything is printed or written: a finished run is left as it is.
        if validated and is_finished(config, calendar, state):
            return step
        record_start(session, dataset, workdir, state)
        batches = session.batches(dataset.splits["train"], step)
        with open_reporter(session, workdir, state, record) as reporter:
            validate = make_validate(config, calendar, validation, reporter)
            signal = session.devices.max_over_processes(stop.signal_number)
            # Metrics, validation, checkpoint, end, next step. So a checkpoint has the metrics up to
            # its step and its validation, and the last state is saved before the run ends.
            while True:
                # A background save that failed ends the run at the next step, not at the next save.
                checkpoints.poll()
                # Read once a step, so that the step that is saved is the one that was flushed.
                due = calendar.due(
                    step,
                    stopping=stop.adopt(signal()),
                    reached_target=reached_target(config, calendar, state, step),
                )
                error = None
                if due.flush:
                    reporter.flush()
                try:
                    if due.validate:
                        state, error = validate(state)
                except Stopped:
                    # It is saved as not validated, so the resumed run validates it first.
                    due = replace(due, end=True)
                if due.save:
                    save(session, checkpoints, reporter, state, record, error)
                if due.end:
                    return step
                batch = next(batches)
                # Dispatched before the step, so that reading it does not wait for the step.
                signal = session.devices.max_over_processes(stop.signal_number)
                state, scalars = train_step(state, batch)
                step += 1
                reporter.push(step, scalars)
