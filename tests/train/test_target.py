"""The end of a run at a training error."""

import jax.numpy as jnp
import pytest
from checked_runs import config_of

from alexnet_jax.runs.calendar import Calendar
from alexnet_jax.train.loop import is_finished, reached_target
from alexnet_jax.train.step import TrainState

CALENDAR = Calendar(steps_per_epoch=4, total_steps=100, validate_every=4, save_every=0)


def state_with(errors, examples, step):
    sums = {"errors": jnp.float32(errors), "examples": jnp.float32(examples)}
    rest = dict.fromkeys(("params", "average", "opt_state", "plateau", "validated_step"))
    return TrainState(step=jnp.int32(step), sums=sums, **rest)


@pytest.mark.parametrize(
    ("errors", "examples", "target", "step", "expected"),
    [
        (1, 4, 0.25, 8, True),
        (2, 4, 0.25, 8, False),
        (1, 4, 0.25, 7, False),  # within an epoch
        (0, 4, 0.25, 0, False),  # nothing is trained yet
        (0, 4, 0.0, 8, False),  # 0 = never
        # As float32, these fractions are more than the float64 targets.
        (10, 100, 0.1, 8, True),
        (3, 10, 0.3, 8, True),
        (31, 100, 0.3, 8, False),
    ],
)
def test_an_epoch_at_the_error_ends_a_run_and_a_resumed_one_alike(
    errors, examples, target, step, expected
):
    config, state = config_of(train__stop_at_train_error=target), state_with(errors, examples, step)
    assert reached_target(config, CALENDAR, state, step) == expected
    assert is_finished(config, CALENDAR, state) == expected
