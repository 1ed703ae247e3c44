"""The lines with which a training starts and ends, and an evaluation's result on the terminal."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.cli import evaluation
from alexnet_jax.data import Split, embedded
from alexnet_jax.nets.spec import Net
from alexnet_jax.parallel import Layout, make_devices
from alexnet_jax.runs import announce


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A file as the NVIDIA driver has one, on a machine whose JAX sees CPUs only."""
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(announce, "NVIDIA_DRIVER", tmp_path / "version")
    (tmp_path / "version").write_text("NVRM version: 580")
    return tmp_path / "version"


def test_a_gpu_that_jax_has_not_found_is_said(driver):
    used, fallen_back = announce.device_lines(make_devices(Layout()))
    assert used.startswith("devices: 1 × cpu, ")
    assert "uses the CPU" in fallen_back
    assert f'pip install "jax[cuda12]=={jax.__version__}"' in fallen_back
    assert max(map(len, fallen_back.splitlines())) <= 80


def test_without_a_driver_or_where_the_cpu_is_asked_for_nothing_is_said(driver, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert len(announce.device_lines(make_devices(Layout()))) == 1
    monkeypatch.delenv("JAX_PLATFORMS")
    driver.unlink()
    assert len(announce.device_lines(make_devices(Layout(data=2)))) == 1
    assert announce.device_lines(make_devices(Layout(data=2)))[0].startswith("devices: 2 × cpu")


def test_the_net_and_the_data_in_a_line_each():
    params = {"conv1": {"kernel": jnp.zeros((2, 3, 500)), "bias": jnp.zeros(4)}}
    line = announce.net_line("alexnet", Net((), crop=64, towers=2), params)
    assert line == "net: alexnet, 3,004 parameters, 2 towers, 64×64 pixels"
    line = announce.net_line("four_layer", Net((), crop=32), params)
    assert line == "net: four_layer, 3,004 parameters, 1 tower, 32×32 pixels"
    line = announce.data_line(embedded.synthetic(1200, 3, 8))
    assert line == "data: synthetic, 3 classes, images: 1,200 train, 1,200 val, 1,200 test"


def test_a_class_without_a_training_image_is_named():
    """Its only image may be held out for validation, by chance."""
    dataset = embedded.synthetic(1200, 3, 8)
    assert announce.unlearned_lines(dataset) == []
    train = dataset.splits["train"]
    ones = Split(train.images, np.ones_like(train.labels))
    few = replace(dataset, class_names=("ant", "bee", "cat"), splits={"train": ones})
    assert announce.unlearned_lines(few) == ["no training image of 2 of 3 classes: ant, cat"]
    many = replace(dataset, class_names=tuple(map(str, range(90))), splits={"train": ones})
    (line,) = announce.unlearned_lines(many)
    assert line == "no training image of 89 of 90 classes: 0, 2, 3, 4, 5 and 84 more"


def test_the_end_names_the_best_validation_the_checkpoints_and_the_next_command(tmp_path):
    without = announce.end_lines(tmp_path, 22)
    assert without[0] == "finished at step 22"
    errors = {9: 0.125, 18: 0.01114}
    rows = [{"step": k, "epoch": k / 9, "time": 1.0, "val/top1_error": errors[k]} for k in errors]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in rows))
    assert announce.end_lines(tmp_path, 22) == [
        "finished at step 22; lowest validation error 1.11 % at step 18",
        f"checkpoints: {tmp_path}/checkpoints",
        f"to evaluate: python -m alexnet_jax.main --mode=eval --workdir={tmp_path}",
    ]


# --- an evaluation -------------------------------------------------------------------------------


def result(step=22, members=1, split="test", views=1, error=0.011142061281337101, data="digits"):
    numbers = {"loss": 0.04125, "top1_error": error, "top5_error": 0.0, "examples": 1359}
    named = {f"{split}/{name}": x for name, x in {**numbers, "views": views}.items()}
    return {"step": step, "members": members, "data": data, **named}


def test_a_result_has_percent_with_two_digits():
    assert evaluation.result_table(result()).splitlines() == [
        "step 22, test split of digits, 1 view",
        "images        1,359",
        "top-1 error  1.11 %",
        "top-5 error  0.00 %",
        "loss         0.0413",
    ]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (result(), "step 22, test split of digits, 1 view"),
        (result(views=10), "step 22, test split of digits, 10 views"),
        (result(split="val"), "step 22, val split of digits, 1 view"),
        (result(data="folder"), "step 22, test split of folder, 1 view"),
        (result(members=3), "mean of 3 nets, test split of digits, 1 view"),
    ],
)
def test_another_kind_of_result_is_not_replaced_without_a_word(tmp_path, capsys, numbers, words):
    path = tmp_path / "new" / "eval.json"
    evaluation.write_result(path, numbers)
    assert json.loads(path.read_text()) == numbers
    evaluation.write_result(path, {**numbers, "step": 22})  # the same again
    other = result(step=30)
    evaluation.write_result(path, other)
    assert json.loads(path.read_text()) == other
    assert capsys.readouterr().out.splitlines() == [
        f"written to {path}",
        f"written to {path}",
        f"written to {path} (in place of: {words})",
    ]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "3", '{"step": 3}'])
def test_a_damaged_result_is_replaced(tmp_path, content):
    path = tmp_path / "eval.json"
    path.write_text(content)
    evaluation.write_result(path, result())
    assert json.loads(path.read_text()) == result()
