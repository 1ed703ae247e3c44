"""Two trainings in one workdir: the second refuses."""

import subprocess
import sys

import pytest
from commands import SMALL, TOP, error_line, lines, run, start, wait_for_step

from alexnet_jax.errors import UserError
from alexnet_jax.runs.lock import only_run

HOLDER = """
import sys, time, pathlib
from alexnet_jax.runs.lock import only_run
with only_run(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_goes_with_its_process_however_that_ends(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], cwd=TOP, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="another training is running") as refused:
        only_run(tmp_path).__enter__()
    assert str(tmp_path) in str(refused.value)
    holder.kill()
    holder.communicate()
    for _ in range(2):  # let go of at the end of the block as well
        with only_run(tmp_path):
            pass


@pytest.mark.slow
def test_a_second_training_is_refused_and_an_evaluation_is_not(tmp_path):
    arguments = (*SMALL, f"--workdir={tmp_path}")
    first = start("main", *arguments, "--config.train.steps=100000")
    wait_for_step(first, tmp_path, 10)  # a checkpoint is saved after step 9
    config = (tmp_path / "config.json").read_bytes()
    line = error_line(run("main", *arguments, "--config.train.steps=7", code=2))
    assert f"workdir {tmp_path}" in line and "--workdir" in line
    assert (tmp_path / "config.json").read_bytes() == config
    run("main", *SMALL, "--mode=eval", f"--workdir={tmp_path}")
    assert first.poll() is None
    first.terminate()
    first.communicate(timeout=60)
    assert first.returncode == 143
    steps = [line["step"] for line in lines(tmp_path) if "train/loss" in line]
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.parametrize("existed", [False, True])
def test_a_run_that_wrote_nothing_leaves_no_trace(tmp_path, existed):
    """Then the corrected command is the first one of its workdir."""
    workdir = tmp_path / "runs" / "a"
    if existed:
        workdir.mkdir(parents=True)
    with pytest.raises(UserError, match="mine"), only_run(workdir):
        assert workdir.is_dir()
        raise UserError("mine")
    left = [x.relative_to(tmp_path).as_posix() for x in sorted(tmp_path.rglob("*"))]
    assert left == (["runs", "runs/a"] if existed else [])


def test_a_run_that_wrote_something_keeps_it(tmp_path):
    with pytest.raises(UserError, match="mine"), only_run(tmp_path):
        (tmp_path / "metrics.jsonl").write_text("{}")
        raise UserError("mine")
    assert {x.name for x in tmp_path.iterdir()} == {"metrics.jsonl", "train.lock"}
