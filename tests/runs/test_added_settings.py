"""Runs that began before a setting existed can still be resumed, evaluated and loaded."""

import json
from pathlib import Path

import pytest
import sweep
from commands import TOP
from saved_runs import save_run

from alexnet_jax.cli import checks, command
from alexnet_jax.main import define_flags
from alexnet_jax.nets.variants import resolve
from alexnet_jax.runs import rules
from alexnet_jax.runs.workdir import read_config
from configs import base

# The settings of the first runs whose checkpoints are still read.
FIRST = {
    "": "init_from seed",
    "checkpoint": "every_steps keep on_full_disk",
    "data": "batch_size crop_size device_megabytes dir image_size input_mean input_scale name "
    "on_bad_record synthetic_classes synthetic_images val_fraction",
    "data.augment": "colour colour_listed colour_scale crop flip",
    "eval": "batch_size every_epochs split views",
    "model": "activation dropout exchange lrn name num_classes pool_size towers width without",
    "optim": "bias_follows bias_multiplier dexp_steps dexp_target learning_rate listed "
    "listed_layers momentum name plateau_drops plateau_factor plateau_patience schedule "
    "weight_decay",
    "parallel": "data scheme tower",
    "train": "epochs log_every_steps steps stop_at_train_error",
}
FIRST_KEYS = {f"{section}.{key}".lstrip(".") for section in FIRST for key in FIRST[section].split()}
BASE = f"--config={TOP / 'configs' / 'base.py'}"


def without_added(content):
    """Returns the content of a config.json as the first runs wrote it."""
    kept = {}
    for key, value in content.items():
        if isinstance(value, dict):
            names = [k.removeprefix(f"{key}.") for k in FIRST_KEYS if k.startswith(f"{key}.")]
            kept[key] = {k: x for k, x in value.items() if k in names or isinstance(x, dict)}
        else:
            kept[key] = value
    return kept


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A workdir of a run that began with the first settings."""
    monkeypatch.chdir(tmp_path)
    config = base.get_config()
    config.model.num_classes = 10
    save_run(Path("run"), config)
    file = Path("run/config.json")
    file.write_text(json.dumps(without_added(json.loads(file.read_text()))))
    return Path("run")


def checked(*arguments):
    """Returns what main checks before anything else."""
    return checks.check(command.parse(["main", *arguments], define_flags, with_config=True))


def test_a_setting_that_was_added_has_its_value_in_older_runs():
    """A new key of configs/base.py needs a line in runs/added_settings.py."""
    now = {key for key, _ in rules.flat(base.get_config())}
    assert now > FIRST_KEYS
    config = {section: {} for section in ("model", "optim", "train")}
    completed = sweep.with_added(config)
    added = {f"{section}.{key}" for section, values in completed.items() for key in values}
    assert now - FIRST_KEYS == added


def test_the_config_of_an_older_run_is_that_of_today(old):
    expected = base.get_config()
    expected.model.num_classes = 10
    assert dict(rules.flat(read_config(old))) == dict(rules.flat(expected))
    assert resolve(read_config(old).model, 64).crop == 64


def test_an_older_run_is_resumed(old):
    assert checked(BASE, "--workdir=run").config.optim.warmup_epochs == 0.0
    assert checked("--workdir=run").config.model.initial == ()


def test_a_sweep_of_older_runs_goes_on(tmp_path):
    content = without_added(sweep.as_json(base.get_config()))
    (tmp_path / sweep.SWEEP).write_text(json.dumps(content))
    sweep.check_folder(tmp_path, base.get_config())
