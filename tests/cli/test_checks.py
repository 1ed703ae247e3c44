"""The checks before a run accept what is right, and give the data's number of classes."""

import os
from pathlib import Path

import pytest
from checked_runs import BASE, IMAGENET, RUN, checked, config_of, refused
from commands import TOP, run
from saved_runs import contents
from stores import write_store

from alexnet_jax import parallel
from alexnet_jax.cli import checks
from alexnet_jax.data import summary
from alexnet_jax.errors import UserError
from alexnet_jax.main import __doc__ as MAIN
from alexnet_jax.runs import rules
from configs import base

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
    ("key", "value"), [("data.on_bad_record", "skip"), ("checkpoint.on_full_disk", "continue")]
)
def test_what_only_one_process_would_know_of_is_refused_for_several(monkeypatch, key, value):
    config = config_of(**{key.replace(".", "__"): value})
    found = summary(config.data)
    checks.check_training(config, found)
    monkeypatch.setattr(parallel, "is_distributed", lambda: True)
    with pytest.raises(UserError, match=f"{key}='{value}' is for a single process"):
        checks.check_training(config, found)


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
