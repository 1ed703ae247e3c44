"""Sweeps of real runs, through the real command."""

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest
from commands import SMALL, TOP, error_line, lines, wait_for_step
from sweeps import RATES, TINY, rows_of, run, words

GRIDS = (RATES, "--grid=config.model.activation=relu,tanh")
THREE_STEPS = (*SMALL, "--config.train.steps=3")


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Returns the folder and the output of a sweep of four points, two at a time."""
    folder = tmp_path_factory.mktemp("sweeps") / "four"
    grids = (*GRIDS, "--jobs=2")
    done = run(*THREE_STEPS[:-1], f"--workdir={folder}", *grids, "--", THREE_STEPS[-1])
    return folder, done.stdout


@pytest.mark.slow
def test_the_table_has_the_values_that_the_runs_wrote(four):
    folder, out = four
    rows = rows_of(folder)
    assert len(rows) == 4
    errors = []
    for row in rows:
        written = lines(folder / row["point"])
        (validation,) = [line for line in written if "val/loss" in line]
        assert {row["step"]} == {"3"} and row["state"] == "done"
        for name in ("val/top1_error", "val/top5_error", "val/loss"):
            assert float(row[name]) == validation[name]
        assert (
            float(row["train/loss"]) == [x for x in written if "train/loss" in x][-1]["train/loss"]
        )
        assert float(row["seconds"]) == written[-1]["time"]
        config = json.loads((folder / row["point"] / "config.json").read_text())
        assert config["optim"]["learning_rate"] == float(row["optim.learning_rate"])
        assert config["model"]["activation"] == row["model.activation"]
        assert config["train"]["steps"] == 3
        errors.append(validation["val/top1_error"])
    assert errors == sorted(errors)
    shown = out.splitlines()[-6:-1]
    assert [tuple(x.split()[:2]) for x in shown[1:]] == [tuple(row.values())[:2] for row in rows]
    for i in range(1, 5):
        assert f"[{i}/4] " in out


@pytest.mark.slow
def test_a_second_call_runs_nothing(four):
    folder, _ = four
    before = {x: (x.read_bytes(), x.stat().st_mtime_ns) for x in folder.glob("*/log.txt")}
    table = (folder / "table.csv").read_text()
    out = run(*THREE_STEPS, f"--workdir={folder}", *GRIDS).stdout
    assert "4 of 4 points are done already" in out
    assert {x: (x.read_bytes(), x.stat().st_mtime_ns) for x in folder.glob("*/log.txt")} == before
    assert (folder / "table.csv").read_text() == table
    out = run(*THREE_STEPS, f"--workdir={folder}", *GRIDS, "--table_only").stdout
    assert "top-1 %" in out


@pytest.mark.slow
def test_a_point_that_diverges_is_named_and_stops_no_other(four):
    folder, _ = four
    wider = "--grid=config.optim.learning_rate=1e6,0.01,0.005"
    activation = "--grid=config.model.activation=relu"
    done = run(*THREE_STEPS, f"--workdir={folder}", wider, activation, code=1)
    assert "1 of 3 points are done already" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("failed: learning_rate=1e6+activation=relu (exit code 2): error: ")
    assert "at step" in line
    rows = rows_of(folder)
    assert [row["state"] for row in rows] == ["done", "done", "failed"]
    assert rows[2]["val/top1_error"] == ""


@pytest.mark.slow
def test_another_configs_sweep_is_refused(four):
    folder, _ = four
    done = run(
        *THREE_STEPS, f"--workdir={folder}", *GRIDS, "--config.data.augment.crop=False", code=2
    )
    assert "data.augment.crop: True → False" in error_line(done)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_makes_the_runs_save(tmp_path, number, code):
    long = (*TINY[:-1], "--config.train.steps=2000", "--config.train.log_every_steps=1")
    given = (*long, f"--workdir={tmp_path}", "--grid=config.seed=0,1,2", "--jobs=2")
    process = subprocess.Popen(words(*given), cwd=TOP, stdout=subprocess.PIPE, text=True)
    for name in ("seed=0", "seed=1"):
        wait_for_step(process, tmp_path / name, 2)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert "goes on from there" in out
    for name in ("seed=0", "seed=1"):
        assert "saved step" in (tmp_path / name / "log.txt").read_text()
        assert any((tmp_path / name / "checkpoints").iterdir())
    assert not (tmp_path / "seed=2").exists()
    run(*given, "--table_only")
    assert [row["state"] for row in rows_of(tmp_path)] == ["unfinished"] * 3


# A replacement for the cluster: it runs the tasks of the array at once, one after another.
SBATCH = """#!{python}
import json, os, subprocess, sys
options = dict(x[2:].partition("=")[::2] for x in sys.argv[1:])
with open({seen!r}, "a") as file:
    file.write(json.dumps(options) + "\\n")
first, _, last = options["array"].partition("%")[0].partition("-")
numbers = range(int(first), int(last) + 1) if last else map(int, first.split(","))
for number in numbers:
    os.environ["SLURM_ARRAY_TASK_ID"] = str(number)
    subprocess.run(["sh", "-c", options["wrap"]], stdout=subprocess.DEVNULL)
print("4242")
"""


@pytest.mark.slow
def test_slurm_array_runs_every_point(tmp_path):
    """This tests only our side: sbatch is the replacement above, not SLURM."""
    place = tmp_path / "it's $HOME; a folder"
    place.mkdir()
    seen = tmp_path / "seen.jsonl"
    (tmp_path / "sbatch").write_text(SBATCH.format(python=sys.executable, seen=str(seen)))
    (tmp_path / "sbatch").chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    folder = place / "sweep"
    given = (*TINY, "--grid=config.seed=0,1", f"--workdir={folder}", "--jobs=2")
    out = run(*given, "--slurm", **path).stdout
    assert "job 4242: 2 points" in out and "--table_only" in out
    (options,) = map(json.loads, seen.read_text().splitlines())
    assert options["array"] == "0-1%2"
    for i, line in enumerate((folder / "points.txt").read_text().splitlines()):
        arguments = shlex.split(line)
        assert arguments[:3] == ["python", "-m", "alexnet_jax.main"]
        assert f"--workdir={folder}/seed={i}" in arguments and f"--config.seed={i}" in arguments
    run(*given, "--table_only")
    assert [row["state"] for row in rows_of(folder)] == ["done", "done"]
    # Done points are not submitted again.
    (folder / "seed=1" / "point.json").unlink()
    run(*given, "--slurm", **path)
    assert json.loads(seen.read_text().splitlines()[-1])["array"] == "1%2"
    assert "points are done already" in run(*given, "--slurm", **path).stdout
    assert len(seen.read_text().splitlines()) == 2
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho 'invalid partition' >&2\nexit 1\n")
    (folder / "seed=1" / "point.json").unlink()
    assert "invalid partition" in error_line(run(*given, "--slurm", code=2, **path))
