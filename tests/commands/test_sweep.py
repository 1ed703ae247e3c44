"""The sweep: grids, points and mistakes in this process; runs through the real command."""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from types import SimpleNamespace

import grid
import pytest
import slurm_array
import sweep
from commands import SMALL, TOP, error_line, lines, wait_for_step

from alexnet_jax.cli import command
from alexnet_jax.errors import UserError

SCRIPT = TOP / "launch" / "sweep.py"

BASE = "--config=configs/base.py"
RATES = "--grid=config.optim.learning_rate=0.01,0.02"
GRIDS = (RATES, "--grid=config.model.activation=relu,tanh")
THREE_STEPS = (*SMALL, "--config.train.steps=3")
# Four layers on 32 pixels: what compiles fastest.
TINY = (
    BASE, "--config.model.name=four_layer", "--config.data.image_size=32",
    "--config.data.crop_size=32", "--config.data.batch_size=160", "--config.train.steps=1",
)  # fmt: skip


@pytest.fixture(autouse=True)
def at_the_top(monkeypatch):
    monkeypatch.chdir(TOP)


def called(*arguments):
    """Returns the exit code of the command, run in this process."""
    words = ["sweep", *map(str, arguments)]
    return sweep.sweep(command.parse(words, sweep.define_flags, with_config=True))


def planned(folder, *arguments):
    words = ["sweep", *map(str, arguments)]
    return sweep.plan_points(command.parse(words, sweep.define_flags, with_config=True), folder)


def words(*arguments):
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


def run(*arguments, code=0, **environment):
    """The real command, which has to end with this exit code."""
    done = subprocess.run(
        words(*arguments), cwd=TOP, capture_output=True, text=True, env=os.environ | environment
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


# Grids and points


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.01", ["0.01"]),
        ("0.01,0.02", ["0.01", "0.02"]),
        ("0.01, 0.02", ["0.01", "0.02"]),
        ('(),("conv3",)', ["()", '("conv3",)']),
        ('("conv3","conv4"),()', ['("conv3","conv4")', "()"]),
        ("((0,1),(2,3)),((4,5),)", ["((0,1),(2,3))", "((4,5),)"]),
        ("[1,2],{3,4}", ["[1,2]", "{3,4}"]),
        ("'a,b',\"c,d\"", ["a,b", "c,d"]),
        ("'',runs/a", ["", "runs/a"]),
        ("""("it's",),"(" """, ["""("it's",)""", "("]),
        ("a=b,c=d", ["a=b", "c=d"]),
    ],
)
def test_split(text, values):
    assert grid.split(text) == values


def test_split_undoes_join_for_any_tuples():
    atoms = [1, -0.5, "a,b", "(", "it's", (), ("x",), (("fc6", 0, 1e-3), ("]", 2))]
    every = [(a, b) for a in atoms for b in atoms] + [(a,) for a in atoms]
    for i in range(len(every)):
        chosen = [repr(every[(i * k) % len(every)]) for k in (1, 5, 7)]
        assert grid.split(",".join(chosen)) == chosen


@pytest.mark.parametrize("text", ["(1,2", "'a", "1,,2", "1,", ",1", " ", "(1,[2)", '("a)'])
def test_split_refuses(text):
    with pytest.raises(UserError, match=r"empty|not closed"):
        grid.split(text)


def test_product_changes_the_last_fastest():
    points = grid.product(["config.a.b=1,2", "config.c=x,y,z"])
    assert [tuple(point.values()) for point in points] == [
        ("1", "x"), ("1", "y"), ("1", "z"), ("2", "x"), ("2", "y"), ("2", "z"),
    ]  # fmt: skip
    assert list(points[0]) == ["a.b", "c"]


def test_names_are_readable_safe_and_different():
    def names(*grids):
        return grid.point_names(grid.product(grids))

    assert names("config.optim.learning_rate=0.02", "config.model.activation=relu,tanh") == [
        "learning_rate=0.02+activation=relu",
        "learning_rate=0.02+activation=tanh",
    ]
    assert names("config.model.name=a", "config.optim.name=b", "config.seed=1e+06") == [
        "model.name=a+optim.name=b+seed=1e+06"
    ]
    assert grid.point_names([{}, {"seed": "1"}]) == ["base", "seed=1"]
    hard = names(
        """config.x=(),("conv3",),("conv3"),../../etc,' ',a/b,a_b,'a,b',é,é;rm,"""
        + f"{'y' * 300},{'y' * 301}"
    )
    assert len(set(hard)) == 12
    for name in hard:
        assert re.fullmatch(r"x=[A-Za-z0-9+._-]{1,60}", name)


def test_a_point_is_mains_command_line(tmp_path):
    tuples = """--grid=config.model.without=(),("conv3","conv4")"""
    points = planned(
        tmp_path, *TINY[:1], "--config.train.steps=7", "--grid=config.seed=3,4", tuples
    )
    assert [point.config["seed"] for point in points] == [3, 3, 4, 4]
    assert [point.config["model"]["without"] for point in points[:2]] == [[], ["conv3", "conv4"]]
    assert {point.config["train"]["steps"] for point in points} == {7}
    assert points[1].arguments == (
        BASE, f"--workdir={points[1].workdir}", "--config.train.steps=7", "--config.seed=3",
        '--config.model.without=("conv3","conv4")',
    )  # fmt: skip
    assert points[1].workdir.parent == tmp_path
    assert not any(tmp_path.iterdir())


def config_with(tmp_path, body):
    path = tmp_path / "own.py"
    path.write_text(f"from configs import base\n\nget_config = base.get_config\n\n{body}\n")
    return f"--config={path}"


def test_a_configs_own_sweep(tmp_path):
    own = config_with(
        tmp_path,
        "import numpy as np\n\ndef sweep():\n    yield {}\n"
        "    for rate in np.array([0.5, 0.25]):\n"
        "        yield {'optim.learning_rate': rate, 'model.without': ('conv3',)}\n"
        "    yield {'model.lrn': False}",
    )
    points = planned(tmp_path / "sweep", own)
    assert [point.config["optim"]["learning_rate"] for point in points] == [0.01, 0.5, 0.25, 0.01]
    assert [point.config["model"]["without"] for point in points] == [[], ["conv3"], ["conv3"], []]
    assert [point.config["model"]["lrn"] for point in points] == [None, None, None, False]
    assert points[0].name == "base"
    assert points[2].name.startswith("learning_rate=0.25+without=conv3-")
    header, *rows = sweep.table_rows(points)
    assert header[:3] == ["optim.learning_rate", "model.without", "model.lrn"]
    assert [row[2] for row in rows] == ["", "", "", "False"]
    assert len(planned(tmp_path / "sweep", own, RATES)) == 2, "a grid goes first"


# Mistakes: one line, and nothing written


MISTAKES = [
    ((), "nothing to sweep: give --grid"),
    (("--grid=config.optim.lr=1,2",), "lr"),
    (("--grid=config.seed=",), "--grid=config.seed= is no setting with values"),
    (("--grid=config.seed",), "--grid=config.seed is no setting with values"),
    (("--grid=optim.learning_rate=1",), "--grid=optim.learning_rate=1 is no setting"),
    (("--grid=config.seed=1,,2",), "a value is empty"),
    (("--grid=config.model.without=('conv3'",), "not closed"),
    (("--grid=config.seed=1", "--grid=config.seed=2"), "config.seed is given twice"),
    (("--grid=config.seed=1,2,1",), "point seed=1 is given twice"),
    (("--grid=config.seed=1,2", "--config.seed=3"), "leave one out"),
    (("--grid=config.optim.learning_rate=0.1,fast",), "fast"),
    (("--grid=config.optim.learning_rate=0.1,-1",), "point learning_rate=-1: optim.learning_rate"),
    (("--grid=config.seed=0,1", "--grid=config.model.activation=relu,rely"), "'rely'"),
    (("--grid=config.model.without=(),('conv9',)",), "conv9"),
    ((RATES, "--config.train.stepz=3"), "stepz"),
    ((RATES, "stray"), "stray"),
    ((RATES, "--job=2"), "job"),
    ((RATES, "--jobs=0"), "--jobs=0"),
    ((RATES, "--only=2"), "--only=2: the points have numbers below 2"),
    ((RATES, "--slurm"), "sbatch"),
    ((RATES, "--slurm", "--table_only"), "exclude each other"),
    ((RATES, "--only=0", "--table_only"), "exclude each other"),
    ((RATES, "--table_only"), "no sweep in"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=lambda x: " ".join(x)[:60])
def test_a_mistake_is_refused_and_nothing_written(tmp_path, monkeypatch, arguments, says):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError) as error:
        called(BASE, f"--workdir={tmp_path}/sweep", *arguments)
    assert says in str(error.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("sweep = 3", "has to yield dicts"),
        ("def sweep():\n    yield ['seed', 1]", "has to yield dicts"),
        ("def sweep():\n    yield {'seed': 1}\n    raise KeyError('mine')", "mine"),
        ("def sweep():\n    return []", "yields no point"),
        ("def sweep():\n    yield {'sead': 1}", "sead"),
        ("def sweep():\n    yield {3: 1}", "3"),
    ],
)
def test_a_wrong_sweep_function_is_refused(tmp_path, body, says):
    with pytest.raises(UserError, match=says):
        called(config_with(tmp_path, body), f"--workdir={tmp_path}/sweep")
    assert not (tmp_path / "sweep").exists()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds no sweep"):
        called(BASE, f"--workdir={tmp_path}", RATES)
    with pytest.raises(UserError, match="not writable"):
        called(BASE, f"--workdir={tmp_path}/thesis.tex", RATES)
    with pytest.raises(UserError, match="missing"):
        called(RATES)


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path):
    done = run(
        BASE, f"--workdir={tmp_path}/sweep", RATES, "--grid=config.model.width=1.0,0.0", code=2
    )
    assert "point learning_rate=0.01+width=0.0: model.width=0.0" in error_line(done)
    assert not done.stdout
    assert not any(tmp_path.iterdir())


# Running, with stand-ins for the runs


def points_in(folder, count):
    return [
        sweep.Point(folder / f"seed={i}", {"seed": str(i)}, (), {"seed": i}) for i in range(count)
    ]


def stand_in(codes):
    """Returns a start() of short runs with these exit codes; it records how many run at once."""

    def start(point):
        point.workdir.mkdir(parents=True, exist_ok=True)
        start.running = [x for x in start.running if x.poll() is None]
        code = codes[point.config["seed"]]
        start.running.append(subprocess.Popen(["sh", "-c", f"sleep 0.3; exit {code}"]))
        start.at_a_time.append(len(start.running))
        start.started.append(point.name)
        return start.running[-1]

    start.running, start.at_a_time, start.started = [], [], []
    return start


@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_jobs_run_at_a_time_and_a_failure_stops_no_other(tmp_path, monkeypatch, jobs):
    points, start = points_in(tmp_path, 5), stand_in([0, 7, 0, 0, 0])
    monkeypatch.setattr(sweep, "start", start)
    sweep.run_points(points, jobs, SimpleNamespace(signal=None))
    assert max(start.at_a_time) == min(jobs, 5)
    assert start.started == [point.name for point in points]
    assert [sweep.state(point) for point in points] == ["done", "failed", *["done"] * 3]
    start.started.clear()
    sweep.run_points(points, jobs, SimpleNamespace(signal=None))
    assert start.started == ["seed=1"], "only the failed one again"


def test_a_run_that_a_signal_killed_has_failed(tmp_path, monkeypatch):
    (point,) = points_in(tmp_path, 1)
    monkeypatch.setattr(sweep, "start", stand_in(["0 & kill -9 $$"]))
    sweep.run_points([point], 1, SimpleNamespace(signal=None))
    assert sweep.exit_code(point) == 137


def test_a_record_of_another_config_does_not_count(tmp_path):
    (point,) = points_in(tmp_path, 1)
    point.workdir.mkdir()
    assert sweep.state(point) == "unfinished"
    sweep.record_end(point, 0)
    assert sweep.state(point) == "done"
    longer = sweep.Point(point.workdir, point.changes, (), {"seed": 0, "train.steps": 9})
    assert sweep.state(longer) == "unfinished"


def test_table_is_sorted_by_the_last_validation_error(tmp_path):
    points = points_in(tmp_path, 5)
    for point, errors in zip(points, ([0.9, 0.4], [0.1, 0.5], [], [0.3], [0.4]), strict=True):
        point.workdir.mkdir()
        written = [{"step": 1, "time": 0.5, "train/loss": 2.0}]
        written += [
            {"step": 9 * i, "time": 1.5 * i, "val/top1_error": x, "val/loss": x}
            for i, x in enumerate(errors, 1)
        ]
        text = "".join(json.dumps(line) + "\n" for line in written)
        (point.workdir / "metrics.jsonl").write_text(text + '{"step": 99, "val/top1_er')
    (points[2].workdir / "metrics.jsonl").unlink()
    sweep.record_end(points[2], 2)
    (points[2].workdir / "log.txt").write_text("begins\nerror: what is wrong\n\n")
    header, *rows = sweep.table_rows(points)
    assert header == [
        "seed", "step", "val/top1_error", "val/top5_error", "val/loss", "train/loss", "seconds",
        "state", "point",
    ]  # fmt: skip
    assert [row[0] for row in rows] == ["3", "0", "4", "1", "2"]
    assert rows[1] == ["0", 18, 0.4, "", 0.4, 2.0, 3.0, "unfinished", "seed=0"]
    assert rows[4] == ["2", "", "", "", "", "", "", "failed", "seed=2"]


def test_the_terminal_table_fits_80_columns():
    """table.csv has full keys and every metric; the terminal has short ones and percentages."""
    keys = ["optim.learning_rate", "model.activation"]
    rows = [
        [*keys, *sweep.HEADER],
        ["0.01", "relu", 6500, 0.1234, 0.05, 2.25, 0.5, 1234.5, "done", "a"],
        ["0.02", "tanh", "", "", "", "", "", "", "unfinished", "b"],
    ]
    header, *body = sweep.terminal_table(rows).splitlines()
    assert header.split("  ")[0] == "learning_rate"
    assert body[0].split() == ["0.01", "relu", "6500", "12.34", "5.00", "2.2500", "1234", "done"]
    assert body[1].split() == ["0.02", "tanh", "-", "-", "-", "-", "-", "unfinished"]
    assert max(map(len, (header, *body))) <= 80


def test_array_of_lists_only_the_points_to_run():
    assert slurm_array.array_of([0, 1, 2], total=3, at_a_time=2) == "0-2%2"
    assert slurm_array.array_of([1, 2], total=3, at_a_time=4) == "1,2%4"


def test_report_names_the_failed_points(tmp_path, capsys):
    points = points_in(tmp_path, 2)
    for point, code in zip(points, (0, 2), strict=True):
        point.workdir.mkdir()
        sweep.record_end(point, code)
    (points[1].workdir / "log.txt").write_text("begins\nerror: what is wrong\n\n")
    assert sweep.report(tmp_path, points) == 1
    out, err = capsys.readouterr()
    assert err == "failed: seed=1 (exit code 2): error: what is wrong\n"
    assert [line.split()[-1] for line in out.splitlines()[:3]] == ["state", "done", "failed"]
    assert sweep.report(tmp_path, points[:1]) == 0


# Runs


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Returns the folder and the output of a sweep of four points, two at a time."""
    folder = tmp_path_factory.mktemp("sweeps") / "four"
    grids = (*GRIDS, "--jobs=2")
    done = run(*THREE_STEPS[:-1], f"--workdir={folder}", *grids, "--", THREE_STEPS[-1])
    return folder, done.stdout


def rows_of(folder):
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


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
