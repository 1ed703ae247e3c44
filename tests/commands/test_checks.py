"""A user's mistakes: each is one line that names the wrong value, and nothing is written."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_jax.cli import checks, command, rules
from alexnet_jax.errors import UserError
from alexnet_jax.main import __doc__ as MAIN
from alexnet_jax.main import define_flags
from configs.base import get_config

TOP = Path(__file__).resolve().parents[2]
BASE = f"--config={TOP / 'configs' / 'base.py'}"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Every test runs in an empty folder, where whatever it writes can be seen."""
    monkeypatch.chdir(tmp_path)


def checked(*arguments):
    """What main does before anything else."""
    return checks.check(command.parse(["main", *arguments], define_flags, with_config=True))


def refused(*arguments):
    """The message with which main refuses these arguments."""
    with pytest.raises(UserError) as fault:
        checked(*arguments)
    return str(fault.value)


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_default_config_is_accepted(tmp_path):
    run = checked(BASE, "--workdir=run")
    assert run.config.model.num_classes == 10
    assert run.workdir == Path("run")
    assert contents(tmp_path) == []


@pytest.mark.parametrize("name", ["base", "cifar10", "imagenet", "imagenet_original"])
def test_every_config_holds_values_that_are_accepted(name):
    config = TOP / "configs" / f"{name}.py"
    classes = "--config.model.num_classes=10"
    assert checked(f"--config={config}", "--mode=describe", classes)


def test_every_rule_is_of_a_key_that_is_declared():
    declared = {key for key, _ in rules.flat(get_config())}
    assert set(rules.RULES) <= declared


# --- a wrong value of a key ------------------------------------------------------------------

VALUES = [
    ("seed", "-1"),
    ("seed", "18446744073709551616"),  # 2⁶⁴
    ("data.batch_size", "abc"),
    ("data.batch_size", "0"),
    ("data.batch_size", "-1"),
    ("data.batch_size", "3.5"),
    ("data.image_size", "0"),
    ("data.crop_size", "0"),
    ("data.crop_size", "-64"),
    ("data.val_fraction", "1.0"),
    ("data.val_fraction", "-0.1"),
    ("data.device_megabytes", "-5"),
    ("data.synthetic_images", "0"),
    ("data.synthetic_classes", "1"),
    ("data.input_scale", "(1.0, 1.0)"),
    ("data.augment.crop", "maybe"),
    ("data.augment.colour", "sepia"),
    ("data.augment.colour_scale", "-0.1"),
    ("model.name", "lenet"),
    ("model.width", "0"),
    ("model.width", "-1"),
    ("model.width", "0.3"),
    ("model.width", "nan"),
    ("model.width", "inf"),
    ("model.towers", "0"),
    ("model.towers", "3"),
    ("model.activation", "gelu"),
    ("model.pool_size", "0"),
    ("model.dropout", "1.0"),
    ("model.dropout", "-0.5"),
    ("model.num_classes", "0"),
    ("model.num_classes", "11"),
    ("model.without", "('conv9',)"),
    ("model.exchange", "('norm1', 'fc8')"),
    ("optim.name", "adam"),
    ("optim.learning_rate", "-0.01"),
    ("optim.learning_rate", "nan"),
    ("optim.learning_rate", "inf"),
    ("optim.learning_rate", "fast"),
    ("optim.bias_multiplier", "-2.0"),
    ("optim.momentum", "1.0"),
    ("optim.momentum", "-0.9"),
    ("optim.momentum", "nan"),
    ("optim.weight_decay", "-0.1"),
    ("optim.weight_decay", "inf"),
    ("optim.schedule", "step"),
    ("optim.plateau_factor", "1.0"),
    ("optim.plateau_factor", "0.0"),
    ("optim.plateau_patience", "0"),
    ("optim.plateau_drops", "-1"),
    ("optim.listed", "((1, 0.1, 2),)"),
    ("optim.listed", "(1, 0.1)"),
    ("optim.listed", "((-1, 0.1),)"),
    ("optim.listed", "((5, 0.1), (2, 0.01))"),
    ("optim.listed_layers", "(('conv1', 5, 0.1), ('conv1', 5, 0.01))"),
    ("optim.listed", "((1, 'a'),)"),
    ("optim.listed_layers", "((1, 0.1),)"),
    ("optim.listed_layers", "(('conv9', 1, 0.1),)"),
    ("optim.dexp_target", "0.0"),
    ("optim.dexp_steps", "1"),
    ("train.epochs", "-1"),
    ("train.epochs", "nan"),
    ("train.epochs", "0"),
    ("train.steps", "-1"),
    ("train.log_every_steps", "0"),
    ("train.stop_at_train_error", "1.5"),
    ("eval.views", "2"),
    ("eval.views", "0"),
    ("eval.every_epochs", "0"),
    ("eval.split", "holdout"),
    ("eval.batch_size", "0"),
    ("checkpoint.every_steps", "-1"),
    ("checkpoint.keep", "0"),
]


def named_in(value, message):
    """The value as it was typed, as a number, or the part of a tuple that is wrong."""
    forms = {value, value.strip("(),' ")}
    try:
        forms |= {repr(float(value)), f"{float(value):g}"}
    except ValueError:
        forms |= {part.strip("(),' ") for part in value.split("'")[1:2]}
    return any(re.search(rf"(?<![\w.]){re.escape(form)}(?![\w.]*\d)", message) for form in forms)


@pytest.mark.parametrize(("key", "value"), VALUES)
def test_a_wrong_value_is_refused_by_its_key_and_value(tmp_path, key, value):
    message = refused(BASE, "--workdir=run", f"--config.{key}={value}")
    assert key.split(".")[-1] in message
    assert named_in(value, message)
    assert "\n" not in message
    assert contents(tmp_path) == []


# --- wrong flags, files and combinations -----------------------------------------------------

CASES = {
    "unknown key": (("--config.data.batchsize=3",), "batchsize"),
    "unknown section": (("--config.dta.batch_size=3",), "dta"),
    "unknown mode": (("--mode=test",), "test"),
    "unknown flag": (("--wrkdir=x",), "wrkdir"),
    "stray argument": (("train",), "'train'"),
    "unknown data set": (("--config.data.name=mnits",), "mnits"),
    "crop larger than the image": (("--config.data.crop_size=73",), "73"),
    "crop too small": (("--config.data.crop_size=51",), "52"),
    "crop too small names itself": (("--config.data.crop_size=51",), "51"),
    "image too small": (("--config.data.image_size=7", "--config.data.crop_size=7"), "7"),
    "checkpoint in training": (("--checkpoint=runs/a",), "--checkpoint"),
    "submission in training": (("--submission=a.txt",), "--submission"),
    "evaluation of nothing": (("--mode=eval",), "run"),
    "evaluation of a missing checkpoint": (("--mode=eval", "--checkpoint=gone"), "gone"),
    "no split to validate on": (("--config.data.val_fraction=0.0",), "val_fraction"),
    "start from nothing": (("--config.init_from=gone",), "gone"),
}


@pytest.mark.parametrize(("arguments", "named"), CASES.values(), ids=CASES)
def test_a_mistake_is_refused_by_its_name(tmp_path, arguments, named):
    message = refused(BASE, "--workdir=run", *arguments)
    assert named in message
    assert "\n" not in message
    assert contents(tmp_path) == []


def test_evaluation_without_anything_to_restore_says_what_to_give():
    message = refused(BASE, "--mode=eval")
    assert "--checkpoint" in message
    assert "--workdir" in message


def test_a_missing_config_flag_is_said():
    assert "--config" in refused("--workdir=run")


def test_a_missing_config_file_is_named():
    assert "configs/nothing.py" in refused("--config=configs/nothing.py")


def test_a_config_file_that_does_not_load_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("def get_config(:\n")
    assert "broken.py" in refused(f"--config={tmp_path / 'broken.py'}")


def test_a_workdir_under_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    message = refused(BASE, "--workdir=file/run")
    assert "file/run" in message
    assert contents(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_workdir_that_is_not_writable_is_named(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "locked/run" in refused(BASE, "--workdir=locked/run")


def test_imagenet_that_is_not_prepared_names_the_command_and_both_tar_files(tmp_path):
    config = f"--config={TOP / 'configs' / 'imagenet.py'}"
    message = refused(config, "--workdir=run", "--config.data.dir=gone")
    for part in (
        "gone",
        "python -m alexnet_jax.prepare --name=imagenet2012",
        "ILSVRC2012_img_train.tar",
        "ILSVRC2012_img_val.tar",
    ):
        assert part in message
    assert contents(tmp_path) == []


def test_a_workdir_of_another_config_is_refused_with_the_difference(tmp_path):
    other = get_config()
    other.optim.learning_rate, other.model.num_classes = 0.5, 10
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(other.to_dict(), default=list))
    message = refused(BASE, "--workdir=run")
    assert "optim.learning_rate" in message
    assert "0.5" in message
    assert contents(tmp_path) == ["run", "run/config.json"]


def test_differences_by_hand():
    old, new = get_config(), get_config()
    new.data.batch_size, new.optim.name = 64, "sgd"
    assert rules.differences(old, old) == []
    assert rules.differences(old, new) == [
        "data.batch_size: 32 → 64",
        "optim.name: 'paper' → 'sgd'",
    ]


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
    assert found == expected
    assert not isinstance(found, float) or math.isfinite(found)


# --- through the shell -----------------------------------------------------------------------


def shell(*arguments, module="main"):
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    return subprocess.run(
        [sys.executable, "-m", f"alexnet_jax.{module}", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((BASE, "--config.data.batch_size=abc"), "abc"),
        ((BASE, "--config.data.batchsize=3"), "batchsize"),
        (("--config=gone.py",), "gone.py"),
        ((BASE, "--config.eval.views=2"), "views=2"),
        ((BASE, "--no_such_flag"), "no_such_flag"),
    ],
)
def test_a_mistake_is_exit_code_2_and_one_line_on_stderr(tmp_path, arguments, named):
    done = shell(*arguments, "--workdir=run")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert named in line
    assert contents(tmp_path) == []


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_exit_code_0_with_an_example(tmp_path, flag):
    done = shell(flag)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "python -m alexnet_jax.main --config=configs/base.py" in done.stdout
    for name in ("--workdir", "--mode", "--checkpoint", "--config"):
        assert name in done.stdout
    assert contents(tmp_path) == []


def test_help_text_says_what_main_does():
    assert MAIN.strip() in command.help_text(define_flags, MAIN, with_config=True)
