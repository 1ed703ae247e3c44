"""The checks before a run accept what is right, and compare a config with a checkpoint's."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from commands import SMALL, TOP, run
from saved_runs import contents, save_run
from stores import write_store

from alexnet_jax.cli import checks, command, restore_checks, rules
from alexnet_jax.errors import UserError
from alexnet_jax.main import __doc__ as MAIN
from alexnet_jax.main import define_flags
from alexnet_jax.nets.spec import Exchange, Weighted
from alexnet_jax.nets.variants import resolve
from configs import base, imagenet

BASE = f"--config={TOP / 'configs' / 'base.py'}"
IMAGENET = f"--config={TOP / 'configs' / 'imagenet.py'}"
RUN = "--workdir=run"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Every test runs in an empty folder, where whatever it writes can be seen."""
    monkeypatch.chdir(tmp_path)


def checked(*arguments):
    """Returns what main checks before anything else."""
    return checks.check(command.parse(["main", *arguments], define_flags, with_config=True))


def refused(*arguments):
    """Returns the message with which main refuses these arguments."""
    with pytest.raises(UserError) as error:
        checked(*arguments)
    return str(error.value)


def config_of(**changes):
    """Returns base.py's resolved config with settings changed, such as optim__learning_rate."""
    config = base.get_config()
    config.model.num_classes = 10
    with config.ignore_type():
        config.update_from_flattened_dict({k.replace("__", "."): x for k, x in changes.items()})
    return config


# --- what is accepted ----------------------------------------------------------------------------


def test_the_default_config_is_accepted(tmp_path):
    run = checked(BASE, RUN)
    assert run.config.model.num_classes == 10
    assert run.workdir == Path("run") and run.notes == ()
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    "name", sorted(str(x.relative_to(TOP / "configs")) for x in (TOP / "configs").rglob("*.py"))
)
def test_every_config_holds_values_that_are_accepted(name):
    config = TOP / "configs" / name
    assert checked(f"--config={config}", "--mode=describe", "--config.model.num_classes=10")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("data.batch_size", "64", 64),
        ("optim.learning_rate", "0.02", 0.02),
        ("optim.learning_rate", "1e-3", 1e-3),
        ("eval.views", "10", 10),
        ("model.dropout", "0.0", 0.0),
        ("model.towers", "1", 1),
        ("model.without", "('conv4',)", ("conv4",)),
        ("optim.listed", "((25, 1e-3), (51, 1e-4))", ((25, 1e-3), (51, 1e-4))),
        ("train.steps", "5", 5),
        ("train.epochs", "2", 2),
    ],
)
def test_a_right_value_reaches_the_config(key, value, expected):
    found = dict(rules.flat(checked(BASE, f"--config.{key}={value}").config))[key]
    assert found == expected and type(found) in (type(expected), float)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_workdir_that_is_not_writable_is_named(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "locked/run" in refused(BASE, "--workdir=locked/run")


def test_help_is_exit_code_0_with_an_example():
    done = run("main", "--help")
    assert done.stderr == ""
    assert "python -m alexnet_jax.main --config=configs/base.py" in done.stdout
    for name in ("--workdir", "--mode", "--checkpoint", "--config"):
        assert name in done.stdout
    assert MAIN.strip() in done.stdout


def test_differences_by_hand():
    old, new = base.get_config(), base.get_config()
    new.data.batch_size, new.optim.name = 64, "sgd"
    assert rules.differences(old, old) == []
    assert rules.differences(old, new) == [
        "data.batch_size: 32 → 64",
        "optim.name: 'paper' → 'sgd'",
    ]


# --- the number of classes -----------------------------------------------------------------------


def own_folder():
    """Writes a store of three classes; returns the arguments that train imagenet.py on it."""
    write_store(Path("own"), {"train": 6, "val": 3}, side=224)
    return (
        IMAGENET, RUN, "--config.data.name=folder", "--config.data.dir=own",
        "--config.data.image_size=224",
    )  # fmt: skip


def test_the_data_overrule_the_number_of_classes_in_a_config_file():
    """configs/imagenet.py says 1,000, which a command line cannot leave out."""
    run = checked(*own_folder())
    assert run.config.model.num_classes == 3
    assert run.notes == ("model.num_classes=3, as folder has (the config has 1000)",)


def test_a_number_of_classes_on_the_command_line_is_not_overruled():
    message = refused(*own_folder(), "--config.model.num_classes=1000")
    assert message == (
        "model.num_classes=1000, but folder has 3 classes; give --config.model.num_classes=3 or "
        "leave it out"
    )


# --- a run that is resumed -----------------------------------------------------------------------

RESUMED = [  # the schedule, a setting, its value in the run, now, and whether that may be
    ("constant", "train.epochs", 30.0, 40.0, True),
    ("constant", "train.steps", 0, 40, True),
    ("listed", "train.epochs", 30.0, 40.0, True),
    ("plateau", "train.epochs", 30.0, 40.0, True),
    ("cosine", "train.epochs", 30.0, 40.0, False),
    ("cosine", "train.steps", 0, 40, False),
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


# --- settings that do not do what they seem to ------------------------------------------------


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


def test_describe_refuses_what_training_refuses():
    describe = (BASE, "--mode=describe", "--config.train.accumulate_steps=2")
    batch_norm = "--config.model.name=alexnet_batch_norm"
    assert "batch normalisation needs the whole batch" in refused(*describe, batch_norm)
    assert "divide" in refused(*describe, "--config.parallel.tower=3")
    # The plan of a machine with 64 GPUs can be described without it.
    devices = (
        "--config.parallel.data=32", "--config.parallel.tower=2", "--config.data.batch_size=256"
    )  # fmt: skip
    assert checked(*describe, *devices).config.parallel.data == 32


# --- a run that starts from a checkpoint ---------------------------------------------------------

SCALE, MEAN = (0.017, 0.018, 0.019), (123.0, 116.0, 103.0)


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


# --- an evaluation -------------------------------------------------------------------------------


def evaluated(*arguments):
    return checked(BASE, "--mode=eval", "--workdir=run", *arguments)


def test_a_checkpoint_brings_its_net_its_input_and_its_validation_split():
    """base.py, which the command names, has other values."""
    own = config_of(
        data__val_fraction=0.25,
        data__image_size=100,
        data__crop_size=90,
        data__input_scale=SCALE,
        model__width=0.125,
    )
    save_run(Path("run"), own)
    found = evaluated("--config.eval.split=val").config
    for key, value in rules.flat(own):
        if key.startswith(("model.", "data.")):
            assert dict(rules.flat(found))[key] == value, key
    assert found.eval.split == "val"


@pytest.mark.parametrize(
    ("key", "own", "given"),
    [
        ("data.val_fraction", 0.1, 0.5),
        ("data.val_fraction", 0.0, 0.1),
        ("data.image_size", 72, 100),
        ("data.crop_size", 64, 60),
        ("data.input_scale", (1.0, 1.0, 1.0), SCALE),
        ("model.width", 0.25, 0.5),
        ("model.dropout", None, 0.0),
    ],
)
def test_the_command_line_may_not_contradict_an_evaluated_checkpoint(key, own, given):
    save_run(Path("run"), config_of(optim__schedule="constant", **{key.replace(".", "__"): own}))
    with pytest.raises(UserError) as error:
        evaluated(f"--config.{key}={given}")
    assert f"was trained with {key}={own!r}, not {given!r}; leave the override" in str(error.value)


def test_each_member_of_an_ensemble_is_compared():
    save_run(Path("run"), config_of())
    save_run(Path("wider"), config_of(model__width=0.5))
    with pytest.raises(UserError, match=r"checkpoint wider was trained with model\.width=0\.5"):
        evaluated("--checkpoint=run,wider", "--config.model.width=0.25")


def test_other_data_may_have_another_size_and_validation_split():
    """A net of the digits on a store of other images: their size is the store's."""
    save_run(Path("run"), config_of(model__num_classes=3))
    write_store(Path("own"), {"train": 6, "val": 3, "test": 3}, side=80)
    run = evaluated(
        "--config.data.name=folder", "--config.data.dir=own", "--config.data.image_size=80"
    )
    assert run.config.data.image_size == 80 and run.split == "test"


def test_a_checkpoint_brings_the_folder_of_its_data():
    write_store(Path("own"), {"train": 6, "val": 3, "test": 3}, side=72)
    own = config_of(model__num_classes=3, data__name="folder", data__dir="own")
    save_run(Path("run"), own)
    assert evaluated("--config.data.name=folder").config.data.dir == "own"


def test_a_store_of_another_size_is_not_what_the_checkpoint_was_trained_on():
    write_store(Path("small"), {"train": 6, "val": 3}, side=72)
    save_run(Path("run"), config_of(model__num_classes=3, data__name="folder", data__image_size=90))
    with pytest.raises(UserError, match="was trained on images of 90 pixels, but folder has 72"):
        evaluated("--config.data.name=folder", "--config.data.dir=small")


def test_a_checkpoint_of_another_number_of_classes_is_refused():
    save_run(Path("run"), config_of(model__num_classes=7))
    with pytest.raises(UserError, match="has 7 classes, but digits has 10"):
        evaluated()


@pytest.mark.slow
def test_an_evaluation_replaces_the_probabilities_of_an_earlier_one(tmp_path):
    run("main", *SMALL, "--config.train.steps=1", f"--workdir={tmp_path}")
    file = tmp_path / "probabilities.npz"
    for views in (1, 10):
        evaluation = ("--mode=eval", f"--config.eval.views={views}", f"--probabilities={file}")
        run("main", f"--workdir={tmp_path}", *evaluation)
    assert json.loads((tmp_path / "eval.json").read_text())["test/views"] == 10
