"""Lines on settings that do not do what they seem to."""

import pytest
from checked_runs import BASE, RUN, checked


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("optim.listed=((1, 0.1),)",), "optim.listed has no effect with optim.schedule='plateau'"),
        (
            ("optim.schedule=cosine", "optim.plateau_patience=2"),
            "optim.plateau_patience has no effect with optim.schedule='cosine'",
        ),
        (("optim.dexp_steps=3",), "optim.dexp_steps has no effect with optim.schedule='plateau'"),
        (
            ("optim.trust_coefficient=0.1",),
            "optim.trust_coefficient has no effect with optim.name='paper'",
        ),
        (
            ("data.augment.colour_scale=0.2",),
            "data.augment.colour_scale has no effect with data.augment.colour='none'",
        ),
        (
            ("data.synthetic_classes=3",),
            "data.synthetic_classes has no effect with data.name='digits'",
        ),
        (
            ("train.steps=9", "train.epochs=3"),
            "train.epochs has no effect with train.steps=9",
        ),
        (
            ("optim.warmup_epochs=4", "train.epochs=3"),
            "optim.warmup_epochs=4 is longer than the training of 3 epochs: the rate does not "
            "reach optim.learning_rate",
        ),
        (
            ("data.image_size=64", "eval.views=10"),
            "eval.views=10: the crop is as large as the images, so the ten views are two, the "
            "image and its mirror image",
        ),
    ],
)
def test_a_setting_that_does_not_do_what_it_seems_to_is_said(arguments, line):
    assert checked(BASE, RUN, *(f"--config.{x}" for x in arguments)).notes == (line,)


@pytest.mark.parametrize(
    "arguments",
    [
        ("optim.schedule=listed", "optim.listed=((1, 0.1),)"),
        ("optim.listed_layers=(('conv1', 1, 0.1),)",),
        ("data.augment.colour=code", "data.augment.colour_listed=((1, 0.0),)"),
        ("optim.warmup_epochs=3", "train.epochs=3"),
        ("optim.warmup_epochs=2", "train.steps=82"),  # 41 batches an epoch
        ("eval.views=10",),
    ],
)
def test_nothing_is_said_of_settings_that_are_read(arguments):
    assert checked(BASE, RUN, *(f"--config.{x}" for x in arguments)).notes == ()
