"""The warning about a loss that stays at chance."""

import math

import pytest

from alexnet_jax.runs.chance import PATIENCE, steps_at_chance, warning


@pytest.mark.parametrize(
    ("loss", "classes", "expected"),
    [
        (math.log(10), 10, 8),
        (2.3486, 10, 8),  # ln 10 = 2.302585, two per cent of it is 0.046052
        (2.3487, 10, 0),
        (2.2566, 10, 8),
        (2.2565, 10, 0),
        (5.298, 200, 8),  # ln 200 = 5.298317
        (5.19, 200, 0),
        (6.91, 1000, 8),
        (0.0, 10, 0),
        (math.log(2), 2, 8),
    ],
)
def test_steps_count_while_the_loss_is_within_two_per_cent_of_chance(loss, classes, expected):
    assert steps_at_chance(7, loss, classes) == expected


def test_a_step_off_chance_starts_the_count_again():
    steps = 0
    for loss in [5.3] * 499 + [4.9] + [5.3] * 499:
        steps = steps_at_chance(steps, loss, 200)
        assert steps < PATIENCE == 500
    assert steps_at_chance(steps, 5.3, 200) == PATIENCE


def test_the_warning_names_the_level_the_steps_and_what_to_try():
    text = warning(200)
    for part in (
        "ln(200) = 5.298", "500 steps", "0.03", "--config.model.initial",
        "--config.model.name=alexnet_released_std", "biases",
    ):  # fmt: skip
        assert part in text
