"""A full disk: told, and nothing that was saved is lost.

On a small tmpfs where this process may mount one; else a limit on the size of files stands in.
"""

import errno
import os
import resource
import subprocess
import time

import numpy as np
import pytest
from commands import SMALL, error_line, lasting, lines, run, start, wait_for_step

from alexnet_jax import evaluate
from alexnet_jax.disk import checksums, full_disk
from alexnet_jax.disk.durable import write_text
from alexnet_jax.errors import UserError
from alexnet_jax.runs import workdir
from alexnet_jax.runs.metrics import Board, Metrics

ARGUMENTS = (*SMALL, "--config.checkpoint.every_steps=3")
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class SmallDisk:
    """A folder on a file system of 16 MB that can be filled, and emptied again."""

    def __init__(self, folder):
        self.folder = folder
        mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
        self.mounted = subprocess.run(mount, capture_output=True).returncode == 0
        print("disk:", "tmpfs" if self.mounted else "no mount allowed; RLIMIT_FSIZE stands in")

    def fill(self, process):
        """Leaves no room; where nothing is mounted, for this process."""
        if not self.mounted:
            resource.prlimit(process, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
            return
        with (self.folder / "filler").open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC

    def make_room(self, process):
        """Takes back `fill`."""
        if not self.mounted:
            resource.prlimit(process, resource.RLIMIT_FSIZE, UNLIMITED)
        (self.folder / "filler").unlink(missing_ok=True)

    def close(self):
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    small = SmallDisk(folder)
    yield small
    small.close()


def wait_for_checkpoint(process, directory):
    for _ in range(1200):
        if workdir.steps(directory):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no checkpoint in a minute")


@pytest.mark.slow
def test_training_says_so_and_keeps_what_was_saved(disk, tmp_path):
    directory = disk.folder / "run"
    process = start("main", *ARGUMENTS, "--config.train.steps=100000", f"--workdir={directory}")
    wait_for_checkpoint(process, directory)
    disk.fill(process.pid)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, (out, err)
    line = error_line(subprocess.CompletedProcess([], 2, out, err))
    assert "the disk is full" in line and "make room" in line
    step, faults = workdir.newest_good(directory)
    assert step > 0 and not faults and not workdir.unfinished(directory)
    disk.make_room(os.getpid())
    run("main", *ARGUMENTS, f"--config.train.steps={step + 4}", f"--workdir={directory}")
    run("main", *ARGUMENTS, f"--config.train.steps={step + 4}", f"--workdir={tmp_path / 'whole'}")
    assert lasting(directory) == lasting(tmp_path / "whole")


@pytest.mark.slow
def test_training_goes_on_where_that_is_wanted(disk, tmp_path):
    directory = disk.folder / "run"
    settings = (*ARGUMENTS, "--config.checkpoint.on_full_disk=continue")
    process = start("main", *settings, "--config.train.steps=100000", f"--workdir={directory}")
    wait_for_checkpoint(process, directory)
    disk.fill(process.pid)
    told = next(line for line in process.stdout if "the disk is full" in line)
    assert "going on" in told
    before = workdir.steps(directory)[-1]
    time.sleep(2)
    assert process.poll() is None and workdir.steps(directory)[-1] == before
    assert not checksums.damage(workdir.step_folder(directory, before))
    disk.make_room(process.pid)
    for _ in range(600):
        if workdir.steps(directory)[-1] > before:
            break
        time.sleep(0.1)
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, (out, err)
    last = workdir.steps(directory)[-1]
    steps = [line["step"] for line in lines(directory) if "train/loss" in line]
    assert last > before and steps == list(range(1, last + 1))


@pytest.mark.slow
def test_a_last_state_that_does_not_fit_is_an_error(disk):
    """Also where the run goes on: at its end there is nothing to go on to."""
    directory = disk.folder / "run"
    settings = (*ARGUMENTS, "--config.checkpoint.on_full_disk=continue")
    process = start("main", *settings, "--config.train.steps=100000", f"--workdir={directory}")
    wait_for_step(process, directory, 1)
    wait_for_checkpoint(process, directory)
    disk.fill(process.pid)
    next(line for line in process.stdout if "the disk is full" in line)
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, (out, err)
    assert "stopped: saved" not in out
    assert err.splitlines()[-1].startswith("error: ") and "make room" in err
    assert not workdir.newest_good(directory)[1]


# --- metrics.jsonl by itself -----------------------------------------------------------------


def write(metrics, *steps):
    for step in steps:
        metrics.write(step, step / 9, 1.0, {"train/loss": 0.5, "train/note": "x" * 500})


RESULT = evaluate.score(np.full((3000, 10), np.log(0.1)), np.zeros(3000, int), 1)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_text(path, "new" * 10_000),
        lambda path: evaluate.write_probabilities(path, RESULT),
        lambda path: evaluate.write_submission(path, RESULT),
    ],
    ids=["text", "probabilities", "submission"],
)
def test_a_file_that_does_not_fit_leaves_the_older_one_and_no_part_of_itself(write, disk):
    """The command is given again once there is room, and a part of a file would take it."""
    write_text(disk.folder / "result", "old")
    disk.fill(os.getpid())
    try:
        with pytest.raises(OSError):
            write(disk.folder / "result")
    finally:
        disk.make_room(os.getpid())
    assert [path.name for path in disk.folder.iterdir()] == ["result"]
    assert (disk.folder / "result").read_text() == "old"


def test_lines_that_do_not_fit_are_held_and_written_later(disk, capsys):
    metrics = Metrics(disk.folder, 0, -1, full_disk.CONTINUE)
    metrics._board.write = lambda *_: None  # it takes numbers only
    write(metrics, 1, 2)
    disk.fill(os.getpid())
    write(metrics, *range(3, 30))
    assert metrics.behind
    told = [line for line in capsys.readouterr().out.splitlines() if "the disk is full" in line]
    assert len(told) == 1 and "metrics.jsonl" in told[0]
    disk.make_room(os.getpid())
    write(metrics, 30)
    metrics.sync()
    assert not metrics.behind
    metrics.close()
    assert [line["step"] for line in lines(disk.folder)] == list(range(1, 31))


def test_a_line_that_does_not_fit_ends_the_run(disk):
    metrics = Metrics(disk.folder, 0, -1)
    metrics._board.write = lambda *_: None
    disk.fill(os.getpid())
    with pytest.raises(UserError, match=r"disk is full: .*metrics\.jsonl cannot be written"):
        write(metrics, *range(1, 30))
    disk.make_room(os.getpid())


def test_tensorboard_goes_on_in_a_new_file(disk):
    board = Board(disk.folder / "tensorboard", 0)
    values = {f"train/{name}": 1.0 for name in range(100)}
    board.write(1, values)
    board.flush()
    disk.fill(os.getpid())
    with pytest.raises(OSError) as fault:
        for step in range(2, 200):
            board.write(step, values)
    assert full_disk.is_full(fault.value)
    disk.make_room(os.getpid())
    board.write(200, values)
    board.flush()
    assert len(list((disk.folder / "tensorboard").iterdir())) == 2


@pytest.mark.parametrize(
    ("fault", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EFBIG, "File too large"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (ValueError("RESOURCE_EXHAUSTED: … No space left on device [os_error_code='28']"), True),
        (ValueError("RESOURCE_EXHAUSTED: out of memory"), False),
    ],
)
def test_which_errors_mean_a_full_disk(fault, full):
    assert full_disk.is_full(fault) is full
    outer = RuntimeError("a save failed")
    outer.__cause__ = fault
    assert full_disk.is_full(outer) is full
