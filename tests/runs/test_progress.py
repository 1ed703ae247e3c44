"""The Reporter: what it writes to metrics.jsonl, what it prints."""

import json
import math
import time

import jax.numpy as jnp
import pytest

from alexnet_jax.errors import UserError
from alexnet_jax.runs import chance
from alexnet_jax.runs.metrics import Metrics
from alexnet_jax.runs.progress import Reporter, with_progress
from configs.base import get_config


def training(step):
    return {"step": step, "epoch": step / 10, "time": 1.0, "train/loss": 0.5}


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def scalars(loss, grad_norm=1.0, epoch_error=0.25, rate=0.01):
    numbers = {
        "loss": loss,
        "top1_error": 0.5,
        "learning_rate": rate,
        "grad_norm": grad_norm,
        "examples": 32.0,
        "epoch_loss": 2 * loss,
        "epoch_top1_error": epoch_error,
    }
    return {name: jnp.float32(x) for name, x in numbers.items()}


def reporter_in(
    workdir, *, step=0, validated=-1, seconds=0.0, epoch_steps=4, total=8, lag=1, **settings
):
    """Settings are keys of the config, such as train__log_every_steps."""
    config = get_config()
    config.model.num_classes, config.train.log_every_steps = 10, 1
    config.update_from_flattened_dict({k.replace("__", "."): x for k, x in settings.items()})
    return Reporter(
        Metrics(workdir, step, validated),
        config,
        first_step=step,
        seconds=seconds,
        steps_per_epoch=epoch_steps,
        total_steps=total,
        lag=lag,
    )


def test_a_step_is_written_when_the_next_one_is_pushed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with reporter_in(tmp_path) as reporter:
        reporter.push(1, scalars(0.5))
        assert path.read_text() == ""
        reporter.push(2, scalars(0.25))
        assert [line["step"] for line in read(path)] == [1]
        reporter.flush()
        assert [line["step"] for line in read(path)] == [1, 2]
        reporter.flush()  # nothing is held: nothing is written twice
        assert [line["step"] for line in read(path)] == [1, 2]


def test_without_a_lag_a_step_is_written_at_once(tmp_path):
    with reporter_in(tmp_path, lag=0) as reporter:
        reporter.push(1, scalars(0.5))
        assert [line["step"] for line in read(tmp_path / "metrics.jsonl")] == [1]


def test_every_step_is_written_once_with_its_own_numbers(tmp_path):
    with reporter_in(tmp_path) as reporter:
        for step in range(1, 9):
            reporter.push(step, scalars(1 / 2**step))
        reporter.flush()
    lines = read(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert [line["train/loss"] for line in lines] == [1 / 2**step for step in range(1, 9)]
    assert [line["epoch"] for line in lines] == [step / 4 for step in range(1, 9)]
    assert all(line["train/top1_error"] == 0.5 for line in lines)
    assert all(line["train/learning_rate"] == pytest.approx(0.01) for line in lines)
    assert all(line["train/grad_norm"] == 1 for line in lines)
    assert all(line["train/images_per_second"] > 0 for line in lines)


def test_only_the_last_line_of_an_epoch_sums_the_epoch_up(tmp_path):
    with reporter_in(tmp_path) as reporter:
        for step in range(1, 9):
            reporter.push(step, scalars(1 / 2**step))
        reporter.flush()
    sums = [line for line in read(tmp_path / "metrics.jsonl") if "train/epoch_loss" in line]
    assert [line["step"] for line in sums] == [4, 8]
    assert [line["train/epoch_loss"] for line in sums] == [2 / 2**4, 2 / 2**8]
    assert [line["train/epoch_top1_error"] for line in sums] == [0.25, 0.25]


def test_lines_are_written_every_so_many_steps_and_at_the_end_of_an_epoch_and_the_run(tmp_path):
    with reporter_in(tmp_path, train__log_every_steps=3, epoch_steps=5, total=11) as reporter:
        for step in range(1, 12):
            reporter.push(step, scalars(0.5))
        reporter.flush()
    steps = [line["step"] for line in read(tmp_path / "metrics.jsonl")]
    assert steps == [3, 5, 6, 9, 10, 11]


def test_time_counts_on_over_a_restart(tmp_path):
    with reporter_in(tmp_path, step=4, seconds=100.0) as reporter:
        reporter.push(5, scalars(0.5))
        reporter.flush()
        assert 100 <= reporter.sync() < 160
    (line,) = read(tmp_path / "metrics.jsonl")
    assert 100 <= line["time"] < 160


def test_the_first_step_counts_its_compilation_and_the_next_rate_does_not(tmp_path):
    with reporter_in(tmp_path, total=100, epoch_steps=100) as reporter:
        time.sleep(0.5)  # compiling
        for step in (1, 2):
            reporter.push(step, scalars(0.5))
            reporter.flush()
    first, second = read(tmp_path / "metrics.jsonl")
    assert first["train/images_per_second"] <= 32 / 0.5 < second["train/images_per_second"]


def test_a_restored_run_goes_on_behind_what_it_keeps(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps(training(step)) + "\n" for step in (1, 2, 3))
    )
    with reporter_in(tmp_path, step=2) as reporter:
        reporter.push(3, scalars(0.125))
        reporter.flush()
    lines = read(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[2]["train/loss"] == 0.125


def test_a_validation_is_a_line_of_its_own(tmp_path):
    values = {
        "val/loss": 0.5,
        "val/top1_error": 0.25,
        "val/top5_error": 0.125,
        "val/examples": 7,
        "val/views": 10,
    }
    with reporter_in(tmp_path) as reporter:
        reporter.validation(4, values)
    (line,) = read(tmp_path / "metrics.jsonl")
    del line["time"]
    assert line == {"step": 4, "epoch": 1.0, **values}


@pytest.mark.parametrize(
    ("loss", "grad_norm", "named"),
    [
        (float("nan"), 1.0, "loss is nan"),
        (float("inf"), 1.0, "loss is inf"),
        (0.5, float("nan"), "grad_norm is nan"),
        (0.5, float("inf"), "grad_norm is inf"),
    ],
)
def test_what_is_not_finite_stops_the_run_and_names_the_step(tmp_path, loss, grad_norm, named):
    with reporter_in(tmp_path) as reporter:
        for step in range(1, 6):
            reporter.push(step, scalars(0.5))
        reporter.push(6, scalars(loss, grad_norm))
        with pytest.raises(UserError) as error:
            reporter.flush()
    assert f"{named} at step 6 (epoch 1, batch 1)" in str(error.value)  # epochs of 4, from 0
    steps = [line["step"] for line in read(tmp_path / "metrics.jsonl")]
    assert steps == [1, 2, 3, 4, 5]


def test_a_step_is_checked_even_if_it_is_not_written(tmp_path):
    with reporter_in(tmp_path, train__log_every_steps=100, epoch_steps=100, total=100) as reporter:
        reporter.push(1, scalars(float("nan")))
        with pytest.raises(UserError, match="step 1 "):
            reporter.push(2, scalars(0.5))


# --- what it prints ----------------------------------------------------------------------------


def printed(capsys, word):
    return [line for line in capsys.readouterr().out.splitlines() if word in line]


@pytest.mark.parametrize("schedule", ["plateau", "listed", "dexp"])
def test_the_learning_rate_and_its_drops_are_printed(tmp_path, capsys, schedule):
    rates = [0.01, 0.01, 0.001, 0.001, 0.001, 0.0001]
    with reporter_in(
        tmp_path, train__log_every_steps=100, epoch_steps=100, total=100, optim__schedule=schedule
    ) as reporter:
        for step, rate in enumerate(rates, 1):
            reporter.push(step, scalars(0.5, rate=rate))
    assert printed(capsys, "learning rate") == [
        "learning rate 0.01 from step 1 on",
        "learning rate 0.001 from step 3 on",
    ]


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_rate_that_changes_at_every_step_is_printed_once(tmp_path, capsys, schedule):
    with reporter_in(tmp_path, optim__schedule=schedule, lag=0) as reporter:
        for step in range(1, 5):
            reporter.push(step, scalars(0.5, rate=0.01 / step))
    assert printed(capsys, "learning rate") == ["learning rate 0.01 from step 1 on"]


def test_of_a_warm_up_the_first_and_the_full_rate_are_printed(tmp_path, capsys):
    rates = [0.0025, 0.005, 0.0075, 0.01, 0.01, 0.001]
    with reporter_in(tmp_path, optim__warmup_epochs=2.0, epoch_steps=2, total=9, lag=0) as reporter:
        for step, rate in enumerate(rates, 1):
            reporter.push(step, scalars(0.5, rate=rate))
    assert printed(capsys, "learning rate") == [
        "learning rate 0.0025 from step 1 on",
        "learning rate 0.01 from step 4 on",
        "learning rate 0.001 from step 6 on",
    ]


def test_a_loss_that_stays_at_chance_is_said_once(tmp_path, capsys):
    """Also where steps are neither logged nor at the end of an epoch."""
    steps = 3 * chance.PATIENCE
    with reporter_in(
        tmp_path, train__log_every_steps=10**6, epoch_steps=10**6, total=10**6, lag=0
    ) as reporter:
        for step in range(1, steps):
            reporter.push(step, scalars(math.log(10) + 0.01))
    assert printed(capsys, "chance") == chance.warning(10).splitlines()[:1]


def test_no_line_is_wider_than_80_columns(tmp_path, capsys):
    """ImageNet's numbers: a million steps and a thousand classes."""
    values = {"val/loss": 6.91, "val/top1_error": 0.999, "val/top5_error": 0.995}
    with reporter_in(
        tmp_path, step=900_000, epoch_steps=10_009, total=900_810, lag=0, model__num_classes=1000
    ) as reporter:
        for step in range(900_001, 900_004):
            reporter._shown = 0.0
            reporter.push(step, scalars(6.908, rate=0.00001))
        reporter.validation(900_003, values)
    lines = [*capsys.readouterr().out.splitlines(), *chance.warning(1000).splitlines()]
    assert any(line.startswith("step 900002/900810  epoch 89.9") for line in lines)
    assert max(map(len, lines)) <= 80


def test_progress_yields_every_batch_and_counts_the_images(capsys, monkeypatch):
    monkeypatch.setattr("alexnet_jax.runs.progress.SECONDS_BETWEEN_LINES", 0.0)
    batches = iter(["a", "b", "c"])
    assert list(with_progress(batches, 10, 4, "validation")) == ["a", "b", "c"]
    assert capsys.readouterr().out.splitlines() == [
        "validation: 4/10 images",
        "validation: 8/10 images",
        "validation: 10/10 images",
    ]
