"""Several processes train and evaluate together as one does; one that is lost ends them all."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from commands import SMALL, TOP, error_line, lines, run, start, wait_for_step
from devices import small

from alexnet_jax import parallel
from alexnet_jax.data import open_dataset
from alexnet_jax.data.pipeline import evaluation_batches, training_batches

STEPS = 12
TRAIN = (*SMALL, f"--config.train.steps={STEPS}")
TOWERS_APART = ("--config.parallel.tower=2",)
TWO_BY_TWO = ("--config.parallel.data=2", "--config.parallel.tower=2")
LAYOUTS = pytest.mark.parametrize(
    ("devices", "layout"),
    [
        pytest.param(1, TOWERS_APART, marks=pytest.mark.slow),  # as the runs that are stopped
        pytest.param(2, (*TWO_BY_TWO, "--config.data.device_megabytes=0"), marks=pytest.mark.slow),
    ],
    ids=["a tower each", "two devices each, streamed"],
)
READS = """
import hashlib, json, sys
from devices import small
from alexnet_jax import parallel
from alexnet_jax.data import open_dataset
from alexnet_jax.data.pipeline import evaluation_batches, training_batches
coordinator, process = sys.argv[1:]
parallel.initialize_distributed(coordinator, 2, int(process), 60)
share = parallel.make_devices(parallel.Layout(data=2, tower=2)).process_slice(32)
splits = open_dataset(small().data).splits
training = training_batches(
    splits["train"], 32, seed=0, first_step=40, device_bytes=0, share=share)
batches = [next(training), next(training)]
batches += evaluation_batches(splits["val"], 32, device_bytes=0, share=share)
print(json.dumps([[hashlib.sha256(x).hexdigest() for x in b["image"]] for b in batches]),
      file=sys.stderr)
"""


def coordinator():
    """Returns an address whose port is free."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def pair(*arguments, devices=1, own=((), ())):
    """Starts the main command as two processes with this number of devices each.

    own: further arguments of each process.
    """
    which = (*arguments, f"--coordinator={coordinator()}", "--num_processes=2")
    env = {"JAX_NUM_CPU_DEVICES": str(devices)}
    return [start("main", *which, f"--process_id={i}", *own[i], env=env) for i in (0, 1)]


def ended(processes, code=0):
    """Returns both outputs, once both have ended with this code."""
    outputs = [process.communicate(timeout=600) for process in processes]
    assert [process.returncode for process in processes] == [code, code], outputs
    return outputs


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Returns the workdir of a single process with one device, trained and evaluated."""
    workdir = tmp_path_factory.mktemp("alone")
    run("main", *TRAIN, f"--workdir={workdir}")
    run("main", *TRAIN, f"--workdir={workdir}", "--mode=eval")
    return workdir


def assert_same_metrics(one, other):
    """Compares every line: losses to float32 rounding, errors exactly."""
    first, second = lines(one), lines(other)
    assert [(x["step"], x.keys()) for x in first] == [(x["step"], x.keys()) for x in second]
    for ours, theirs in zip(first, second, strict=True):
        assert_same_numbers(ours, theirs)
    assert [x["val/examples"] for x in first if "val/loss" in x] == [144, 144]


def assert_same_numbers(ours, theirs):
    for name in ours:
        if name.endswith("loss"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5), (ours, theirs)
        elif "error" in name or name.endswith(("step", "examples", "views")):
            assert ours[name] == theirs[name], (ours, theirs)


@LAYOUTS
def test_two_processes_are_the_same_run(devices, layout, alone, tmp_path):
    arguments = (*TRAIN, *layout, f"--workdir={tmp_path}")
    (out, _), (silent, _) = ended(pair(*arguments, devices=devices))
    assert "validation at step 12" in out and "Gloo" not in out + silent
    assert "validation" not in silent
    assert_same_metrics(alone, tmp_path)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    ended(pair(*arguments, "--mode=eval", devices=devices))
    ours, theirs = (json.loads((x / "eval.json").read_text()) for x in (tmp_path, alone))
    assert ours.keys() == theirs.keys()
    assert ours["test/examples"] == 359
    assert_same_numbers(ours, theirs)


@pytest.mark.slow
def test_each_process_reads_its_share_only():
    """The rows of process 0 followed by those of process 1 are what a single process reads."""
    where = coordinator()
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": ".:tests/helpers"}
    words = [[sys.executable, "-c", READS, where, str(i)] for i in (0, 1)]
    processes = [
        subprocess.Popen(x, cwd=TOP, env=env, stderr=subprocess.PIPE, text=True) for x in words
    ]
    shares = [json.loads(err.splitlines()[-1]) for _, err in ended(processes)]
    splits = open_dataset(small().data).splits
    training = training_batches(splits["train"], 32, seed=0, first_step=40, device_bytes=10**9)
    batches = [next(training), next(training)]  # the last of an epoch, padded, and the first
    batches += evaluation_batches(splits["val"], 32, device_bytes=10**9)
    for batch, first, second in zip(batches, *shares, strict=True):
        assert len(first) == len(second) == 16
        alone = [hashlib.sha256(x).hexdigest() for x in np.asarray(batch["image"])]
        assert first + second == alone


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_a_signal_to_one_stops_both_at_the_same_step(which, alone, tmp_path):
    arguments = (*TRAIN, *TOWERS_APART, f"--workdir={tmp_path}")
    processes = pair(*arguments)
    wait_for_step(processes[0], tmp_path, 3)
    processes[which].send_signal(signal.SIGTERM)
    (out, _), _ = ended(processes, 143)
    (step,) = (int(x.name) for x in (tmp_path / "checkpoints").iterdir())
    assert 3 <= step < STEPS
    assert f"saved step {step}" in out
    ended(pair(*arguments))
    assert_same_metrics(alone, tmp_path)


def assert_ended_by_loss(lost, code, err):
    """One line and exit code 2; when process 0 dies, jax writes lines of its own first.

    jax's own check of heartbeats may abort the other process before that line: if process 0 is
    lost, or if the other waits for a checkpoint, where no collective fails.
    """
    if code == -signal.SIGABRT:
        assert "another task died" in err
        return
    assert code == 2, err
    line = err.splitlines()[-1]
    assert line.startswith("error: another process of this run has died; start all of them again")
    assert "Traceback" not in err
    if lost == 1:
        assert err.splitlines() == [line]


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_a_lost_process_ends_the_other_and_both_resume(which, alone, tmp_path):
    arguments = (
        *TRAIN,
        *TOWERS_APART,
        f"--workdir={tmp_path}",
        "--config.checkpoint.every_steps=2",
    )
    processes = pair(*arguments)
    wait_for_step(processes[0], tmp_path, 5)
    processes[which].kill()
    since = time.monotonic()
    other = processes[1 - which]
    _, err = other.communicate(timeout=60)
    print(f"the other ended with {other.returncode} after {time.monotonic() - since:.1f} s")
    assert_ended_by_loss(which, other.returncode, err)
    processes[which].communicate()
    saved = max(int(x.name) for x in (tmp_path / "checkpoints").iterdir() if x.name.isdigit())
    assert 2 <= saved < STEPS
    ended(pair(*arguments))
    assert_same_metrics(alone, tmp_path)


@pytest.mark.parametrize("arrived", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_process_that_never_arrives_is_one_line(arrived, tmp_path):
    done = run(
        "main", *TRAIN, *TOWERS_APART, f"--workdir={tmp_path}/w", "--num_processes=2",
        f"--coordinator={coordinator()}", f"--process_id={arrived}", "--initialization_timeout=3",
        code=2,
    )  # fmt: skip
    assert "not all processes of 127.0.0.1:" in error_line(done)
    assert not (tmp_path / "w").exists()


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("main", *TRAIN, f"--coordinator=localhost:{port}", "--num_processes=2", code=2)
    assert f"port {port} cannot be used" in error_line(done)


# A job of two tasks, as SLURM describes it to its processes.
JOB = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
STEP = JOB | {"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_ID": "0"}


@pytest.mark.parametrize(
    "env",
    [JOB, STEP | {"SLURM_STEP_NUM_TASKS": "1"}],
    ids=["without srun", "an interactive step of one task"],
)
def test_a_process_alone_in_an_allocation_of_two_tasks_waits_for_nobody(
    env,
):
    """It goes on to the next check, of the devices."""
    wrong = ("--config.parallel.tower=2", "--initialization_timeout=3")
    assert "needs 2 devices" in error_line(run("main", *SMALL, *wrong, env=env, code=2))


@pytest.mark.slow
def test_a_process_of_a_step_of_two_tasks_waits_for_the_other():
    """Unless it only describes the net."""
    env = STEP | {"SLURM_STEP_NUM_TASKS": "2"}
    assert "conv1" in run("main", *SMALL, "--mode=describe", env=env).stdout
    done = run("main", *SMALL, "--initialization_timeout=3", env=env, code=2)
    assert "not all processes of the SLURM job arrived in 3 s" in error_line(done)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (("--config.parallel.data=2",), "parallel.data=2 × parallel.tower=1 uses 2 of 4 devices"),
        pytest.param((), "parallel.data=1 × parallel.tower=1 uses 1 of 4", marks=pytest.mark.soak),
    ],
)
def test_a_layout_without_a_device_of_the_second_process_is_one_line_each(layout, said, tmp_path):
    """The first process would train alone, and the second end with a traceback."""
    for _, err in ended(pair(*TRAIN, *layout, f"--workdir={tmp_path}/w", devices=2), 2):
        (line,) = err.splitlines()
        assert line.startswith(f"error: {said}") and "start fewer processes" in line
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_processes_with_other_settings_are_one_line_each(tmp_path):
    """Each would compute with its own rate, and the parameters on the devices would part."""
    rates = [(f"--config.optim.learning_rate={rate}",) for rate in (0.01, 0.02)]
    processes = pair(*TRAIN, *TOWERS_APART, f"--workdir={tmp_path}/w", own=rates)
    for _, err in ended(processes, 2):
        (line,) = err.splitlines()
        assert line.startswith("error: the processes of this run differ in their settings")
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "use", ["resume", pytest.param("init_from", marks=pytest.mark.soak), "evaluate"]
)
def test_processes_that_see_other_checkpoints_are_one_line_each(use, alone, tmp_path):
    """As without a shared drive: they would wait for each other, or mix two nets."""
    step_9 = alone / "checkpoints" / "9"
    arguments, own = {
        "resume": (TRAIN, [(f"--workdir={x}",) for x in (alone, tmp_path / "w")]),
        "init_from": (
            (*TRAIN, f"--workdir={tmp_path}/w"),
            [(f"--config.init_from={x}",) for x in (alone, step_9)],
        ),
        "evaluate": (
            (*SMALL, "--mode=eval", f"--workdir={tmp_path}/w", "--config.eval.split=val"),
            [(f"--checkpoint={x}",) for x in (alone, step_9)],
        ),
    }[use]
    for _, err in ended(pair(*arguments, *TOWERS_APART, own=own), 2):
        (line,) = err.splitlines()
        assert line.startswith("error: the processes of this run find different checkpoints")
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"SLURM_PROCID": None},
        {"SLURM_JOB_ID": None},
        {"SLURM_STEP_NUM_TASKS": None, "SLURM_NTASKS": "two"},
    ],
)
def test_variables_of_slurm_that_do_not_fit_are_one_line(changed, tmp_path):
    """As in a container that is given only some of them."""
    variables = STEP | {"SLURM_STEP_NUM_TASKS": "2"} | changed
    env = {name: value for name, value in variables.items() if value is not None}
    arguments = (*SMALL, f"--workdir={tmp_path}/w", "--initialization_timeout=3")
    done = run("main", *arguments, env=env, code=2)
    assert "do not say which process" in error_line(done)
    assert not (tmp_path / "w").exists()


def test_without_a_number_of_tasks_a_process_is_alone(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NODELIST", "localhost")
    monkeypatch.setenv("SLURM_NTASKS", "")
    parallel.initialize_distributed("", 1, 0, 3)
