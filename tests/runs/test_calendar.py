"""The calendar of a training, against tables worked out by hand."""

import pytest

from alexnet_jax.runs.calendar import Calendar

# Epochs of 4 steps, 10 steps in all, a validation every 2 epochs, a checkpoint every 3 steps.
CALENDAR = Calendar(steps_per_epoch=4, total_steps=10, validate_every=8, save_every=3)
# step: what is due, by the first letters of flush, validate, save and end
QUIET = {
    0: "", 1: "", 2: "", 3: "fs", 4: "f", 5: "", 6: "fs", 7: "", 8: "fvs", 9: "fs", 10: "fvse",
    11: "fvse",
}  # fmt: skip
STOPPING = {0: "fse", 1: "fse", 3: "fse", 4: "fse", 8: "fvse", 10: "fvse"}
REACHED = {4: "fvse", 8: "fvse"}


def letters(due):
    names = ("flush", "validate", "save", "end")
    return "".join(name[0] for name in names if getattr(due, name))


@pytest.mark.parametrize(("step", "expected"), QUIET.items())
def test_what_is_due(step, expected):
    assert letters(CALENDAR.due(step, stopping=False, reached_target=False)) == expected


@pytest.mark.parametrize(("step", "expected"), STOPPING.items())
def test_a_signal_saves_and_ends_and_validates_only_where_that_was_due(step, expected):
    assert letters(CALENDAR.due(step, stopping=True, reached_target=False)) == expected


@pytest.mark.parametrize(("step", "expected"), REACHED.items())
def test_a_reached_target_validates_saves_and_ends(step, expected):
    assert letters(CALENDAR.due(step, stopping=False, reached_target=True)) == expected


def test_without_save_every_a_checkpoint_follows_each_validation_only():
    calendar = Calendar(steps_per_epoch=2, total_steps=6, validate_every=2, save_every=0)
    found = [letters(calendar.due(x, stopping=False, reached_target=False)) for x in range(7)]
    assert found == ["", "", "fvs", "", "fvs", "", "fvse"]


def test_a_validation_is_regular_if_a_longer_training_makes_it_too():
    """The one at the end of a training, step 10, is not."""
    assert [x for x in range(25) if CALENDAR.is_regular_validation(x)] == [8, 16, 24]
    assert [x for x in range(13) if CALENDAR.is_epoch_end(x)] == [4, 8, 12]
