"""The sweep: points, mistakes, running and table, with stand-ins for the runs."""

import dataclasses
import json
import subprocess
from types import SimpleNamespace

import pytest
import slurm_array
import sweep
from commands import TOP, error_line
from small_disk import files_up_to
from stores import write_store
from sweeps import BASE, RATES, TINY, run

from alexnet_jax.cli import command
from alexnet_jax.data.store import open_store
from alexnet_jax.errors import UserError
from configs.base import get_config


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


def test_what_the_checks_of_the_points_find_is_printed_once(tmp_path, capsys):
    """Points that differ in a setting without effect are the same run."""
    decays = "--grid=config.optim.weight_decay=0.1,0.2"
    points = planned(tmp_path, *TINY, decays, "--grid=config.optim.warmup_epochs=0,9")
    said = [" ".join(line.split()) for line in sweep.note_lines(points)]
    assert said == [
        "4 of 4 points: optim.weight_decay has no effect with model.name='four_layer': each of its "
        "layers has its own",
        "2 of 4 points: optim.warmup_epochs=9 is longer than the training of 0.111111 epochs: the "
        "rate does not reach optim.learning_rate",
    ]
    (line,) = sweep.note_lines(points[:1])
    assert line.startswith("weight_decay=0.1+warmup_epochs=0: optim.weight_decay has no effect")
    assert sweep.note_lines(planned(tmp_path, *TINY, RATES)) == []
    tiny = command.parse(["", *TINY], sweep.define_flags, with_config=True).config
    sweep.write_json(tmp_path / sweep.SWEEP, sweep.as_json(tiny))
    called(*TINY, f"--workdir={tmp_path}", decays, "--table_only")
    assert capsys.readouterr().out.startswith("2 of 2 points: optim.weight_decay has no effect")


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


def test_a_record_of_other_data_does_not_count(tmp_path):
    """A store that was prepared anew: main refuses the point, and the table does not mix them."""
    (point,) = points_in(tmp_path, 1)
    point.workdir.mkdir()
    sweep.record_end(dataclasses.replace(point, data="of the old store"), 0)
    assert sweep.state(dataclasses.replace(point, data="of the old store")) == "done"
    assert sweep.state(dataclasses.replace(point, data="of the new store")) == "unfinished"


def test_a_point_knows_the_content_of_its_store(tmp_path):
    write_store(tmp_path / "store", {"train": 6, "val": 3}, side=32)
    own = ("--config.data.name=folder", f"--config.data.dir={tmp_path}/store")
    (point,) = planned(tmp_path / "sweep", *TINY, *own, "--grid=config.seed=1")
    assert point.data == open_store(tmp_path / "store").checksum


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
    # The table stays whole if the next one does not fit on the disk.
    before = (tmp_path / "table.csv").read_bytes()
    assert before.count(b"\r\n") == 2
    with files_up_to(100), pytest.raises(OSError, match="File too large"):
        sweep.report(tmp_path, points)
    assert (tmp_path / "table.csv").read_bytes() == before


@pytest.mark.parametrize("content", ["{", "[1]", "null", ""])
def test_a_record_of_the_sweep_that_is_broken_is_named(tmp_path, content):
    (tmp_path / sweep.SWEEP).write_text(content)
    with pytest.raises(UserError, match=r"sweep\.json cannot be read"):
        sweep.check_folder(tmp_path, get_config())


@pytest.mark.parametrize("content", ["{", "[1]", "null", "{}"])
def test_a_point_whose_files_are_broken_is_unfinished(tmp_path, content):
    (tmp_path / sweep.RECORD).write_text(content)
    good = '{"val/top1_error": 0.25}'
    (tmp_path / "metrics.jsonl").write_bytes(f"{good}\n{content}\n[1]\n".encode() + b"\xff\n")
    point = sweep.Point(tmp_path, {}, (), {"seed": 0})
    assert sweep.state(point) == "unfinished"
    assert sweep.last_metrics(tmp_path) == {"val/top1_error": 0.25}
