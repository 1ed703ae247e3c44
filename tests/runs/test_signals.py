"""SIGTERM, SIGINT, SIGHUP at awkward moments: the step that is printed is saved and resumed."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from commands import SMALL, TOP, run, start, wait_for_step
from kills import assert_same_run, new_steps, saving, wait

from alexnet_jax.runs import workdir

ARGUMENTS = (*SMALL, "--config.checkpoint.every_steps=4", "--config.eval.batch_size=4")
STEPS = "--config.train.steps=30"
SECONDS = 10  # to save and end


@pytest.fixture(autouse=True)
def hangup_is_not_ignored():
    """Programs of a suite that runs under nohup would inherit that SIGHUP is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    run("main", *ARGUMENTS, STEPS, f"--workdir={directory}")
    return directory


def begin(directory):
    return start("main", *ARGUMENTS, STEPS, f"--workdir={directory}")


def ended(process, *signals, pause=0.0):
    """Sends the signals; returns the exit code and what was said."""
    for number in signals:
        process.send_signal(number)
        time.sleep(pause)
    out, err = process.communicate(timeout=SECONDS + 50)
    assert "Traceback" not in err, err
    return process.returncode, out


def assert_saved(directory, out):
    """The step that is told is there and good."""
    step, faults = workdir.newest_good(directory)
    assert f"stopped: saved step {step}" in out and not faults
    assert not workdir.unfinished(directory)


def assert_goes_on(directory, whole):
    run("main", *ARGUMENTS, STEPS, f"--workdir={directory}")
    assert_same_run(whole, directory)


@pytest.mark.parametrize("seconds", [0.05, 1.0])
def test_right_after_the_start_nothing_is_lost(tmp_path, seconds):
    """Before there is a handler the signal ends the process: the shell's code is the same."""
    process = begin(tmp_path / "run")
    time.sleep(seconds)
    code, out = ended(process, signal.SIGTERM)
    assert code in (-signal.SIGTERM, 128 + signal.SIGTERM)
    if workdir.steps(tmp_path / "run"):
        assert_saved(tmp_path / "run", out)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_while_the_net_is_compiled(tmp_path, number, code):
    process = begin(tmp_path)
    assert process.stdout.readline().startswith("workdir:")
    found, out = ended(process, number)
    assert found == code
    assert_saved(tmp_path, out)


@pytest.mark.slow
def test_while_a_checkpoint_is_saved(tmp_path, whole):
    process = begin(tmp_path)
    wait(process, lambda: bool(saving(tmp_path)))
    code, out = ended(process, signal.SIGTERM)
    assert code == 143
    assert_saved(tmp_path, out)
    assert_goes_on(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("step", [9, 30])
def test_while_it_is_evaluated(tmp_path, whole, step):
    """In the middle and at the end, where the state is saved before it is evaluated."""
    process = begin(tmp_path)
    wait(process, lambda: step in new_steps(tmp_path, 0))
    code, out = ended(process, signal.SIGTERM)
    assert code == 143
    assert_saved(tmp_path, out)
    assert_goes_on(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_ends_at_once_without_harm(tmp_path, whole, first):
    """Also while a checkpoint is being saved."""
    process = begin(tmp_path)
    wait(process, lambda: len(workdir.steps(tmp_path)) > 0 and bool(saving(tmp_path)))
    code, _ = ended(process, first, signal.SIGINT, pause=0.02)
    assert code in (-signal.SIGINT, 130, 128 + first)  # or it had just ended by the first
    assert not workdir.newest_good(tmp_path)[1]
    assert_goes_on(tmp_path, whole)


@pytest.mark.slow
def test_a_closed_terminal_loses_nothing(tmp_path, whole):
    """The kernel sends SIGHUP then, and whatever is printed on the terminal raises."""
    terminal, inside = pty.openpty()
    environment = {**os.environ, "RUN": str(tmp_path / "run")}
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, *ARGUMENTS, STEPS],
        cwd=TOP, stdin=inside, stdout=inside, stderr=inside, env=environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(inside)
    wait_for_step(process, tmp_path / "run", 3)
    os.close(terminal)
    assert process.wait(timeout=SECONDS + 50) == 128 + signal.SIGHUP
    step, faults = workdir.newest_good(tmp_path / "run")
    assert step >= 3 and not faults and not workdir.unfinished(tmp_path / "run")
    assert_goes_on(tmp_path / "run", whole)


# The terminal becomes that of the new session, as at a login.
IN_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
run = f"--workdir={os.environ['RUN']}"
os.execv(sys.executable, [sys.executable, "-m", "alexnet_jax.main", *sys.argv[1:], run])
"""


@pytest.mark.parametrize("prefix", [(), ("nohup",)], ids=["", "nohup"])
def test_a_hangup_is_remembered_unless_nohup_has_it_ignored(prefix):
    program = "import signal, sys; from alexnet_jax.runs.signals import Stop; stop = Stop()\n"
    program += "signal.raise_signal(signal.SIGHUP); sys.exit(stop.exit_code)"
    words = [*prefix, sys.executable, "-c", program]
    done = subprocess.run(words, cwd=TOP, capture_output=True)
    assert done.returncode == (0 if prefix else 129)


INTERRUPTED_WHILE_BUSY = """
import numpy as np
from alexnet_jax.runs.signals import Stop
stop, matrix = Stop(), np.random.rand(6000, 6000)
print("ready", flush=True)
np.linalg.svd(matrix)  # a single step of the interpreter, as compiling is
"""


def test_a_second_interrupt_ends_a_compilation_too():
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED_WHILE_BUSY],
        cwd=TOP,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("SIGINT: saving after this step")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=3) == 130
    process.communicate()


# --- Stop by itself --------------------------------------------------------------------------

PROGRAM = """
import sys, time
from alexnet_jax.runs.signals import Stop, Stopped
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
        cwd=TOP,
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
