"""Validation during training: the error on held-out images, and its effect on the schedule."""

from collections.abc import Callable
from typing import Any

import jax
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
from alexnet_jax.parallel import is_distributed
from alexnet_jax.runs.calendar import Calendar
from alexnet_jax.runs.progress import Reporter, with_progress
from alexnet_jax.runs.signals import Stop
from alexnet_jax.train.session import Session
from alexnet_jax.train.step import TrainState, evaluated_params


def make_validation(
    session: Session, dataset: Dataset, stop: Stop
) -> Callable[[Any], Evaluation] | None:
    """Returns a function that evaluates parameters on the split 'val'; None if there is no 'val'.

    The function raises Stopped if a signal asks the run to stop.
    """
    if "val" not in dataset.splits:  # as with data.val_fraction=0
        return None
    config, split = session.config, dataset.splits["val"]
    view_probabilities = make_view_probabilities(session.model, session.devices)

    def validation(params: Any) -> Evaluation:
        predict = make_predict(view_probabilities, params, session.stats, config.eval.views)
        batches = batches_on_devices(config, split, session.devices)
        batches = with_progress(batches, len(split), config.eval.batch_size, "validation")
        # One process can stop between two batches. Several would have to agree on the batch, so
        # they validate to the end.
        if not is_distributed():
            batches = stop.until(batches)
        return evaluate([predict], batches, len(split), config.eval.views)

    return validation


def make_after_validation(config: ConfigDict) -> Callable[[TrainState, float, bool], TrainState]:
    """Returns a function that records a validation in the state: (state, error, regular) → state.

    A validation is regular if it is due at this step whatever the length of the training. Only the
    error of a regular validation is passed to the plateau schedule, which may lower the rate. An
    extra validation at the end of a training is not: so a run that is continued later equals an
    uninterrupted one.
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
    """Returns a function that validates a state, unless the state is validated already.

    The function reports the result. It returns the state, marked as validated, and the top-1
    error as a fraction, or None if nothing was evaluated. It raises Stopped as `validation` does.
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


def is_validated(state: TrainState) -> bool:
    """True if the state was validated at its own step."""
    return int(state.validated_step) == int(state.step)
