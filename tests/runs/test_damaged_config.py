"""A run's config.json that somebody has edited: what no run can have is refused in one line."""

import json

import pytest
from saved_runs import save_run

from alexnet_jax.errors import UserError
from alexnet_jax.runs.workdir import read_config
from alexnet_jax.weights.loading import load
from configs import base

GONE = object()


@pytest.fixture
def run(tmp_path):
    config = base.get_config()
    config.model.num_classes = 10
    save_run(tmp_path / "run", config)
    return tmp_path / "run"


def edit(run, key, value):
    """Sets a key such as data.batch_size in config.json, or takes it out."""
    content = json.loads((run / "config.json").read_text())
    *sections, last = key.split(".")
    inner = content
    for section in sections:
        inner = inner[section]
    inner[last] = value
    if value is GONE:
        del inner[last]
    (run / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("data.crop_size", GONE, "it lacks data.crop_size"),
        ("optim", GONE, "it lacks optim.bias_follows"),
        ("data.augment", 3, "it lacks data.augment.colour"),
        ("data", 1, "it lacks data.augment.colour"),
        ("parallel", {}, "it lacks parallel.data"),
        ("model.width", "half", "model.width='half' has to be of the type float"),
        ("model.towers", "two", "model.towers='two' has to be of the type int"),
        ("train.steps", 1.5, "train.steps=1.5 has to be of the type int"),
        ("data.input_scale", None, "data.input_scale=None has to be of the type tuple"),
        ("model.width", -1.0, "model.width=-1.0 has to be more than 0"),
        ("model.name", "alexnet2", "model.name='alexnet2' has to be one of"),
        ("optim.learning_rate", float("nan"), "optim.learning_rate=nan has to be a finite number"),
        ("data.input_scale", [0, 0, 0], "data.input_scale=(0, 0, 0) has to be three numbers"),
        ("model.num_classes", None, "model.num_classes is null"),
    ],
)
def test_a_setting_that_no_run_can_have_is_named_with_the_file(key, value, said, run):
    edit(run, key, value)
    for reading in (read_config, load):
        with pytest.raises(UserError) as error:
            reading(run)
        line = str(error.value)
        assert line.startswith(f"{run / 'config.json'} cannot be read ({said}")
        assert line.endswith("; correct it, or train in another --workdir") and "\n" not in line


def test_a_whole_number_in_place_of_a_real_one_and_further_keys_are_accepted(run):
    """A person writes 30 for 30.0; a model hub, and a later version, have keys of their own."""
    edit(run, "train.epochs", 30)
    edit(run, "id2label", {"0": "zero"})
    assert read_config(run).train.epochs == 30
