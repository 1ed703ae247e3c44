"""Changes that a resumed run may make, and what a run takes from the checkpoint it starts from."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from checked_runs import BASE, MEAN, RUN, SCALE, checked, config_of, refused
from saved_runs import save_run

from alexnet_jax.cli import restore_checks
from alexnet_jax.errors import UserError
from alexnet_jax.nets.spec import Exchange, Weighted
from alexnet_jax.nets.variants import resolve
from alexnet_jax.runs import rules
from configs import imagenet

RESUMED = [  # the schedule, a setting, its value in the run, now, and whether that may be
    ("constant", "train.epochs", 30.0, 40.0, True),
    ("constant", "train.steps", 0, 40, True),
    ("listed", "train.epochs", 30.0, 40.0, True),
    ("plateau", "train.epochs", 30.0, 40.0, True),
    ("cosine", "train.epochs", 30.0, 40.0, False),
    ("cosine", "train.steps", 0, 40, False),
    ("linear", "train.epochs", 30.0, 40.0, False),
    ("linear", "train.steps", 0, 40, False),
    ("dexp", "train.epochs", 30.0, 40.0, False),
    ("dexp", "train.steps", 0, 40, False),
    ("plateau", "eval.every_epochs", 1, 2, False),
    ("plateau", "eval.views", 1, 10, False),
    ("constant", "eval.every_epochs", 1, 2, True),
    ("constant", "eval.views", 1, 10, True),
    ("plateau", "eval.split", "", "val", True),
    ("plateau", "train.stop_at_train_error", 0.1, 0.0, True),
    ("plateau", "train.log_every_steps", 10, 20, True),
    ("plateau", "train.accumulate_steps", 1, 2, True),
    ("plateau", "data.device_megabytes", 512, 0, True),
    ("plateau", "data.on_bad_record", "fail", "skip", True),
    ("plateau", "checkpoint.every_steps", 0, 5, True),
    ("plateau", "checkpoint.keep", 2, 5, True),
    ("plateau", "seed", 0, 1, False),
    ("plateau", "data.batch_size", 32, 64, False),
    ("plateau", "data.val_fraction", 0.1, 0.2, False),
    ("plateau", "data.augment.flip", False, True, False),
    ("plateau", "model.dropout", None, 0.0, False),
    ("plateau", "optim.learning_rate", 0.01, 0.02, False),
    ("plateau", "optim.plateau_patience", 5, 6, False),
    ("plateau", "train.compute_dtype", "float32", "bfloat16", False),
    # Nothing reads these with this schedule and these data.
    ("plateau", "optim.dexp_steps", 4, 5, True),
    ("cosine", "optim.plateau_patience", 5, 6, True),
    ("plateau", "data.synthetic_images", 1024, 99, True),
    ("plateau", "data.augment.colour_scale", 0.1, 0.3, True),
]


@pytest.mark.parametrize(("schedule", "key", "old", "new", "may"), RESUMED)
def test_what_a_resumed_run_may_change(schedule, key, old, new, may):
    """What changes nothing that is computed; the learning rate may depend on more."""
    config = config_of(optim__schedule=schedule, **{key.replace(".", "__"): old})
    save_run(Path("run"), config)
    arguments = (
        BASE, RUN, f"--config.optim.schedule={schedule}", f"--config.{key}={new}"
    )  # fmt: skip
    if may:
        assert dict(rules.flat(checked(*arguments).config))[key] == new
    else:
        assert f"{key}: {old!r} → {new!r}" in refused(*arguments)


def test_epochs_may_change_in_a_run_whose_steps_are_given():
    """The rate of a cosine depends on the length of the training, which is train.steps."""
    save_run(Path("run"), config_of(optim__schedule="cosine", train__steps=9))
    given = (BASE, RUN, "--config.optim.schedule=cosine", "--config.train.epochs=7")
    assert checked(*given, "--config.train.steps=9").config.train.epochs == 7
    assert "train.steps: 9 → 0" in refused(*given)


def test_a_refused_change_says_both_ways_on():
    save_run(Path("run"), config_of(optim__learning_rate=0.5))
    assert refused(BASE, RUN) == (
        "workdir run holds the run of another config (optim.learning_rate: 0.5 → 0.01); undo that, "
        "or give another --workdir with --config.init_from=run, which starts a new run from its "
        "parameters"
    )


def test_a_config_without_a_checkpoint_is_no_run(tmp_path):
    """What a run that failed before its first checkpoint leaves does not bind the next one."""
    save_run(Path("other"), config_of(optim__learning_rate=0.5))
    Path("run").mkdir()
    Path("other/config.json").rename("run/config.json")
    assert checked(BASE, RUN).config.optim.learning_rate == 0.01


def test_a_result_of_removed_checkpoints_does_not_pass_for_a_new_run_s():
    """The new run ends at the same step, so that report and export would take it for theirs."""
    save_run(Path("run"), config_of())
    Path("run/eval.json").write_text('{"step": 0, "members": 1, "data": "digits"}')
    assert checked(BASE, RUN)  # a resumed run keeps its result
    shutil.rmtree("run/checkpoints")
    Path("run/predictions.npz").touch()
    assert refused(BASE, RUN) == (
        "workdir run holds eval.json and predictions.npz of checkpoints that are not in it, which "
        "would pass for this run's; remove them, or give another --workdir"
    )
    Path("run/eval.json").unlink()  # figures would draw the predictions alone
    assert "holds predictions.npz of checkpoints" in refused(BASE, RUN)
    Path("run/predictions.npz").unlink()
    assert checked(BASE, RUN)


@pytest.mark.parametrize("now", ["gone", "runs/first/", ""])
def test_a_resumed_run_does_not_need_what_it_started_from(now):
    """The folder may be gone, be spelt otherwise or not be named; the record keeps the name."""
    save_run(Path("run"), config_of(init_from="runs/first"))
    run = checked(BASE, RUN, f"--config.init_from={now}")
    assert run.config.init_from == "runs/first"


@pytest.mark.parametrize(
    ("begun", "line"),
    [
        ("runs/first", "init_from=other is not read: the run in run has begun from runs/first"),
        ("", "init_from=other is not read: the run in run has begun without it"),
    ],
)
def test_a_resumed_run_says_that_another_start_is_not_read(begun, line):
    save_run(Path("run"), config_of(init_from=begun))
    assert checked(BASE, RUN, "--config.init_from=other").notes == (line,)


@pytest.fixture
def first():
    save_run(Path("first"), config_of(data__input_scale=SCALE, data__input_mean=MEAN))


def test_init_from_brings_its_input(first):
    """Its parameters mean nothing with another input scale."""
    run = checked(BASE, RUN, "--config.init_from=first")
    assert run.config.data.input_scale == SCALE and run.config.data.input_mean == MEAN
    assert run.notes == (
        f"init_from first: data.input_mean is the checkpoint's, {MEAN}",
        f"init_from first: data.input_scale is the checkpoint's, {SCALE}",
    )


@pytest.mark.parametrize("scale", ["(1.0, 1.0, 1.0)", "(0.5, 0.5, 0.5)"])
def test_the_command_line_may_not_contradict_its_input(first, scale):
    message = refused(BASE, RUN, "--config.init_from=first", f"--config.data.input_scale={scale}")
    assert f"was trained with data.input_scale={SCALE}, not {scale}; leave the override" in message


def test_the_command_line_may_repeat_its_input(first):
    run = checked(BASE, RUN, "--config.init_from=first", f"--config.data.input_scale={SCALE}")
    assert run.config.data.input_scale == SCALE


def test_a_resumed_run_keeps_the_input_that_init_from_brought(first):
    """The same command again must go on, with and without the first run's folder."""
    begun = checked(BASE, RUN, "--config.init_from=first").config
    save_run(Path("run"), begun)
    assert checked(BASE, RUN, "--config.init_from=first").config.data.input_scale == SCALE
    assert checked(BASE, RUN, "--config.init_from=gone").config.data.input_mean == MEAN


@pytest.fixture
def caffe():
    """A checkpoint of caffe_alexnet with 7 classes; it has the shapes of alexnet."""
    config = imagenet.get_config()
    config.model.name, config.data.crop_size, config.model.num_classes = "caffe_alexnet", 227, 7
    save_run(Path("caffe"), config)


def test_init_from_brings_its_net_but_not_its_classes(caffe):
    config = imagenet.get_config()
    config.init_from = "caffe"
    assert restore_checks.check_init_from(config, {}) == [
        "init_from caffe: data.crop_size is the checkpoint's, 227",
        "init_from caffe: model.name is the checkpoint's, 'caffe_alexnet'",
    ]
    assert (config.model.name, config.model.num_classes) == ("caffe_alexnet", 1000)


def test_the_command_line_may_ask_for_another_net_which_is_said(caffe):
    """Only its LRN, dropout and crop tell caffe_alexnet from alexnet."""
    config = imagenet.get_config()
    config.init_from = "caffe"
    given = {"model.name": "alexnet_released_std", "data.crop_size": 224}
    (line,) = restore_checks.check_init_from(config, given)
    assert line.startswith(
        "init_from caffe is of another net: caffe_alexnet → alexnet_released_std (crop: 227"
    )
    assert "norm1.k: 1.0 → 2.0" in line


@pytest.mark.parametrize(
    ("key", "value"),
    [("model.width", 0.5), ("model.name", "one_weird_trick"), ("model.without", ("conv4",))],
)
def test_init_from_of_other_sizes_names_the_override(caffe, key, value):
    """Before anything is written; the classifier may be of other classes."""
    config = imagenet.get_config()
    config.init_from = "caffe"
    with config.ignore_type():
        config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError) as error:
        restore_checks.check_init_from(config, {key: value})
    assert "init_from caffe: its parameters do not fit this net (" in str(error.value)
    assert str(error.value).endswith(f"; leave out the override of {key}")


def test_the_same_command_resumes_a_run_with_the_net_that_init_from_brought(caffe):
    arguments = (BASE, RUN, "--config.init_from=caffe", "--config.data.image_size=256")
    begun = checked(*arguments).config
    assert (begun.model.name, begun.data.crop_size) == ("caffe_alexnet", 227)
    assert begun.model.num_classes == 10
    save_run(Path("run"), begun)
    assert checked(*arguments).config.model.name == "caffe_alexnet"


def differences(old, new, **changes):
    """Returns in what two nets differ, by their names; `changes` are settings of the second."""
    first, second = imagenet.get_config().model, imagenet.get_config().model
    first.name, second.name = old, new
    second.update(changes)
    return restore_checks.net_differences(resolve(first, 227), resolve(second, 227))


def test_two_nets_differ_in_what_they_compute():
    assert differences("alexnet", "alexnet") == []
    assert differences("alexnet", "alexnet", num_classes=5) == []
    assert differences("alexnet", "alexnet", initial=(("conv3", 0.03, 0.0),)) == []
    assert differences("alexnet", "alexnet", towers=1)[0] == "towers: 2 → 1"
    assert "drop6.rate: 0.5 → 0.25" in differences("alexnet", "alexnet", dropout=0.25)
    assert "drop6.kind: 'Dropout' → 'missing'" in differences("alexnet", "alexnet", dropout=0.0)
    caffe = differences("alexnet", "caffe_alexnet")
    assert "drop6.inverted: False → True" in caffe and "norm1.across_towers: False → True" in caffe
    assert "the order of the layers" in differences("caffenet", "caffe_alexnet")
    assert "fc8.exchange: True → False" in differences(
        "alexnet", "alexnet_half", exchange=("conv3", "fc6", "fc7")
    )


def test_net_differences_see_every_attribute_that_a_trained_net_depends_on():
    """Each attribute of each layer, changed by itself, is listed; those of training are not."""
    config = imagenet.get_config()
    config.model.name = "alexnet_original"
    net = resolve(config.model, 224)
    for place, layer in enumerate(net.layers[:-1]):
        if isinstance(layer, Exchange):
            continue
        for field in dataclasses.fields(layer):
            if field.name == "name":
                continue
            changed = dataclasses.replace(layer, **{field.name: 77})
            other = dataclasses.replace(
                net, layers=(*net.layers[:place], changed, *net.layers[place + 1 :])
            )
            found = restore_checks.net_differences(net, other)
            expected = f"{layer.name}.{field.name}: {getattr(layer, field.name)!r} → 77"
            training_only = ("std", "bias", "rate", "weight_decay")
            if isinstance(layer, Weighted) and field.name in training_only:
                assert found == []
            else:
                assert found == [expected]
