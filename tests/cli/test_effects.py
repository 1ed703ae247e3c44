"""Lines on settings that do not do what they seem to."""

from pathlib import Path

import pytest
from checked_runs import BASE, RUN, checked, config_of
from saved_runs import save_run

from alexnet_jax import main
from alexnet_jax.cli import command


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
        (("data.dir=pets",), "data.dir has no effect with data.name='digits', which has no store"),
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
        (
            ("data.image_size=64", "data.augment.crop=True"),
            "data.augment.crop has no effect with data.crop_size=64, as large as the images",
        ),
        (
            ("data.name=synthetic", "data.val_fraction=0.3"),
            "data.val_fraction has no effect with these data: they have a validation split",
        ),
        (
            ("model.towers=1", "model.exchange=('conv2',)"),
            "model.exchange has no effect with one tower",
        ),
        (
            ("model.name=alexnet_batch_norm", "model.lrn=True"),
            "model.lrn has no effect with model.name='alexnet_batch_norm': the net has no response "
            "normalisation",
        ),
        (
            ("model.without=('drop6', 'drop7')", "model.dropout=0.2"),
            "model.dropout has no effect with model.name='alexnet': the net has no dropout",
        ),
        (
            ("model.name=cuda_convnet_18pct", "model.width=1.0", "optim.weight_decay=0.1"),
            "optim.weight_decay has no effect with model.name='cuda_convnet_18pct': each of its "
            "layers has its own",
        ),
        (
            ("optim.schedule=listed", "optim.listed=((1, 0.1), (9, 0.01))", "train.epochs=9"),
            "optim.listed: the training of 9 epochs ends before the change at epoch 9",
        ),
        (
            ("optim.listed_layers=(('conv1', 2.5, 0.1),)", "train.steps=82"),  # 41 an epoch
            "optim.listed_layers: the training of 2 epochs ends before the change at epoch 2.5",
        ),
    ],
)
def test_a_setting_that_does_not_do_what_it_seems_to_is_said(arguments, line):
    assert checked(BASE, RUN, *(f"--config.{x}" for x in arguments)).notes == (line,)


def test_describe_says_it_too(capsys):
    """There a user looks at settings before the data are prepared."""
    arguments = ("--mode=describe", "--config.data.name=folder", "--config.model.num_classes=2")
    words = ["main", BASE, *arguments, "--config.optim.dexp_steps=3"]
    assert main.main(command.parse(words, main.define_flags, with_config=True)) == 0
    said = capsys.readouterr().out
    assert said.startswith("optim.dexp_steps has no effect with optim.schedule='plateau'\nalexnet:")


@pytest.mark.parametrize(("layer", "is_said"), [("conv1", True), ("fc8", False)])
def test_initial_weights_beside_those_of_a_checkpoint_are_said(layer, is_said):
    """Those of the classifier are used if the data have other classes."""
    save_run(Path("first"), config_of())
    initial = f"--config.model.initial=(('{layer}', 0.1, 0.0),)"
    notes = checked(BASE, RUN, "--config.init_from=first", initial).notes
    line = "model.initial has no effect with init_from=first, which brings the weights"
    assert (line in notes) == is_said


@pytest.mark.parametrize(
    "arguments",
    [
        ("optim.schedule=listed", "optim.listed=((1, 0.1),)"),
        ("optim.listed_layers=(('conv1', 1, 0.1),)",),
        ("data.augment.colour=code", "data.augment.colour_listed=((1, 0.0),)"),
        ("optim.warmup_epochs=3", "train.epochs=3"),
        ("optim.warmup_epochs=2", "train.steps=82"),  # 41 batches an epoch
        ("eval.views=10",),
        ("model.lrn=True", "model.pool_size=2", "model.dropout=0.2", "model.exchange=('fc8',)"),
        ("data.augment.crop=True", "data.val_fraction=0.3", "optim.weight_decay=0.1"),
        ("optim.listed_layers=(('conv1', 2.5, 0.1),)", "train.epochs=3"),
    ],
)
def test_nothing_is_said_of_settings_that_are_read(arguments):
    assert checked(BASE, RUN, *(f"--config.{x}" for x in arguments)).notes == ()
