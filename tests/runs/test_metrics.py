"""metrics.jsonl, its cut after a restore, and what a signal does."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import pytest

from alexnet_jax.errors import UserError
from alexnet_jax.runs.metrics import Metrics, Reporter, cut_back
from configs.base import get_config

# --- cutting back ----------------------------------------------------------------------------


def training(step):
    return {"step": step, "epoch": step / 10, "time": 1.0, "train/loss": 0.5}


def validation(step):
    return {"step": step, "epoch": step / 10, "time": 1.0, "val/loss": 0.6, "val/examples": 7}


def written(path, *lines, end="\n"):
    path.write_text("\n".join(map(json.dumps, lines)) + end)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_cut_keeps_training_lines_up_to_its_step_and_drops_later_ones(tmp_path):
    path = tmp_path / "metrics.jsonl"
    written(path, *map(training, (10, 20, 30)))
    cut_back(path, 20, -1)
    assert read(path) == [training(10), training(20)]


def test_a_cut_keeps_the_evaluation_of_its_step_only_if_the_state_knows_of_it(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [training(10), validation(10), training(20), validation(20), training(30)]
    written(path, *lines)
    cut_back(path, 20, 20)
    assert read(path) == lines[:4]
    cut_back(path, 20, 10)  # saved at step 20 before it was evaluated: it is going to be
    assert read(path) == lines[:3]


def test_a_cut_to_step_0_leaves_nothing(tmp_path):
    path = tmp_path / "metrics.jsonl"
    written(path, training(1), validation(10))
    cut_back(path, 0, -1)
    assert path.read_text() == ""


def test_a_half_written_last_line_is_dropped_and_the_next_one_stands_alone(tmp_path):
    path = tmp_path / "metrics.jsonl"
    written(path, training(10), training(20), end='\n{"step": 20, "epoch"')
    metrics = Metrics(tmp_path, 20, -1)
    metrics.write(21, 2.1, 3.0, {"train/loss": 0.25})
    metrics.close()
    last = {"step": 21, "epoch": 2.1, "time": 3.0, "train/loss": 0.25}
    assert read(path) == [training(10), training(20), last]


def test_a_cut_leaves_no_other_file_and_a_missing_file_missing(tmp_path):
    cut_back(tmp_path / "metrics.jsonl", 5, -1)
    assert list(tmp_path.iterdir()) == []
    written(tmp_path / "metrics.jsonl", training(1))
    cut_back(tmp_path / "metrics.jsonl", 5, -1)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


# --- the reporter ----------------------------------------------------------------------------


def scalars(loss, grad_norm=1.0, epoch_error=0.25):
    numbers = {
        "loss": loss,
        "top1_error": 0.5,
        "learning_rate": 0.01,
        "grad_norm": grad_norm,
        "examples": 32.0,
        "epoch_loss": 2 * loss,
        "epoch_top1_error": epoch_error,
    }
    return {name: jnp.float32(x) for name, x in numbers.items()}


def reporter_in(workdir, *, step=0, evaluated=-1, seconds=0.0, epoch_steps=4, total=8, **settings):
    train = get_config().train
    train.log_every_steps = 1
    for key, value in settings.items():
        train[key] = value
    return Reporter(workdir, step, evaluated, seconds, epoch_steps, total, train)


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
    with reporter_in(tmp_path, log_every_steps=3, epoch_steps=5, total=11) as reporter:
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
    written(tmp_path / "metrics.jsonl", *map(training, (1, 2, 3)))
    with reporter_in(tmp_path, step=2) as reporter:
        reporter.push(3, scalars(0.125))
        reporter.flush()
    lines = read(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[2]["train/loss"] == 0.125


def test_an_evaluation_is_a_line_of_its_own(tmp_path):
    values = {
        "val/loss": 0.5,
        "val/top1_error": 0.25,
        "val/top5_error": 0.125,
        "val/examples": 7,
        "val/views": 10,
    }
    with reporter_in(tmp_path) as reporter:
        reporter.evaluation(4, values)
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
        with pytest.raises(UserError) as fault:
            reporter.flush()
    assert f"{named} at step 6 (epoch 1, batch 1)" in str(fault.value)  # epochs of 4, from 0
    steps = [line["step"] for line in read(tmp_path / "metrics.jsonl")]
    assert steps == [1, 2, 3, 4, 5]


def test_a_step_is_checked_even_if_it_is_not_written(tmp_path):
    with reporter_in(tmp_path, log_every_steps=100, epoch_steps=100, total=100) as reporter:
        reporter.push(1, scalars(float("nan")))
        with pytest.raises(UserError, match="step 1 "):
            reporter.push(2, scalars(0.5))


def test_a_run_has_learnt_when_an_epochs_error_is_at_the_threshold(tmp_path):
    with reporter_in(tmp_path, stop_at_train_error=0.25, total=100) as reporter:
        errors = [0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.25]  # epochs end at steps 4 and 8
        learnt = []
        for step, error in enumerate(errors, 1):
            reporter.push(step, scalars(0.5, epoch_error=error))
            reporter.flush()
            learnt.append(reporter.learnt(step))
    assert learnt == [False] * 7 + [True]


def test_without_a_threshold_a_run_never_stops_for_having_learnt(tmp_path):
    with reporter_in(tmp_path) as reporter:
        for step in range(1, 5):
            reporter.push(step, scalars(0.5, epoch_error=0.0))
        reporter.flush()
        assert not reporter.learnt(4)


# --- signals ---------------------------------------------------------------------------------

PROGRAM = """
import sys, time
from alexnet_jax.stopping import Stop, Stopped
stop = Stop()
assert stop.exit_code == 0
print("ready", flush=True)
while not stop.signal:
    time.sleep(0.01)
print("asked", flush=True)
for _ in range(int(sys.argv[1])):
    time.sleep(0.01)
try:
    list(stop.until(iter([1, 2, 3])))
except Stopped:
    sys.exit(stop.exit_code)
"""


def signalled(*signals, hundredths=0):
    """The exit code of a program that gets these signals."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(hundredths)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signals[0])
    assert process.stdout.readline() == "asked\n"
    for number in signals[1:]:
        process.send_signal(number)
        time.sleep(0.1)
    process.stdout.close()
    return process.wait(timeout=60)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_remembered_and_is_the_exit_code(number, code):
    assert signalled(number) == code


def test_a_second_interrupt_ends_the_program_at_once():
    code = signalled(signal.SIGTERM, signal.SIGINT, hundredths=6000)
    assert code == -signal.SIGINT


def test_a_second_interrupt_after_an_interrupt_ends_the_program_at_once():
    code = signalled(signal.SIGINT, signal.SIGINT, hundredths=6000)
    assert code == -signal.SIGINT
