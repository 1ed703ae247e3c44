"""Trains a run for each point of a grid; ends with a table by validation error.

Example:   python launch/sweep.py --config=configs/base.py
               --workdir=runs/my-sweep --jobs=2
               --grid=config.optim.learning_rate=0.01,0.02
               --grid=config.model.lrn=True,False
               --config.train.epochs=5
Points:    all combinations of the grids. Commas in brackets or quotes do not
           divide values:
           --grid='config.model.without=(),("conv3",)'. Without a --grid, the
           points are what the config file's own sweep() yields, a function
           beside get_config:
           {"optim.learning_rate": 0.02}, {}, … --config.key=value holds for all
           points; a -- may stand before such overrides.
Each run:  python -m alexnet_jax.main with workdir SWEEP/<point>, its output in
           <point>/log.txt.
Again:     the same command skips points that are done, resumes those that were
           stopped, and runs failed ones once more; a longer grid adds points.
The end:   the table, in full in SWEEP/table.csv; failed points are named and
           the exit code is 1.
Machines:  several --jobs on one GPU: set XLA_PYTHON_CLIENT_MEM_FRACTION.
           --slurm submits one array job instead, with --jobs of its tasks at a
           time. What a task needs is set in sbatch's own variables, such as
           SBATCH_PARTITION or SBATCH_GPUS. --table_only prints the table later.
"""

from checkout import TOP  # first: one error line if .venv is not active

# isort: split
import contextlib
import csv
import io
import itertools
import json
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags
from grid import Changes, own_points, point_names, product, short_keys, swept_keys
from ml_collections import ConfigDict, config_flags
from slurm_array import array_of, check_sbatch, submit

from alexnet_jax import main, parallel
from alexnet_jax.cli import command
from alexnet_jax.cli.checks import check
from alexnet_jax.cli.restore_checks import fixed_changes
from alexnet_jax.cli.tables import text_table, wrap
from alexnet_jax.data import summary
from alexnet_jax.disk.durable import write_text
from alexnet_jax.errors import UserError
from alexnet_jax.runs import metrics
from alexnet_jax.runs.added_settings import with_added
from alexnet_jax.runs.signals import Stop

SWEEP, RECORD, LOG, TABLE, POINTS = "sweep.json", "point.json", "log.txt", "table.csv", "points.txt"
ERROR = "val/top1_error"
COLUMNS = ("step", ERROR, "val/top5_error", "val/loss", "train/loss", "time")
HEADER = (*COLUMNS[:-1], "seconds", "state", "point")  # the metric `time` is called seconds
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
      workdir: of the run.
      changes: settings that distinguish it from the other points.
      arguments: of `alexnet_jax.main`.
      config: resolved, as JSON gives it back.
      data: checksum of the store that it reads; empty if it reads none.
      notes: lines for the user on what its checks have found.
    """

    workdir: Path
    changes: Changes
    arguments: tuple[str, ...]
    config: Any
    data: str = ""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Returns the name of its folder."""
        return self.workdir.name


def define_flags(values: flags.FlagValues) -> None:
    """Declares the flags other than --config."""
    own = {"flag_values": values}
    grid = "config.a.b=1,2: values of one setting; several grids are multiplied."
    flags.DEFINE_multi_string("grid", [], grid, **own)
    folder = "Folder of the sweep, with a folder for each point; empty = runs/<config>-sweep."
    flags.DEFINE_string("workdir", "", folder, **own)
    flags.DEFINE_integer("jobs", 1, "Points that run at a time.", lower_bound=1, **own)
    flags.DEFINE_bool("slurm", False, "Submit the points as one SLURM array job.", **own)
    flags.DEFINE_bool(
        "table_only", False, "Run nothing; print the table of the runs so far.", **own
    )
    only = "Run only the point with this number, counted from 0, and make no table."
    flags.DEFINE_integer("only", None, only, lower_bound=0, **own)


def config_file(values: flags.FlagValues) -> str:
    """Returns the value of --config."""
    return config_flags.get_config_filename(values["config"])


def overrides(values: flags.FlagValues) -> dict[str, str]:
    """Returns the settings that the command line changes for all points."""
    return {k: str(v) for k, v in config_flags.get_override_values(values["config"]).items()}


def plan_points(values: flags.FlagValues, folder: Path) -> list[Point]:
    """Returns all points, each checked as main would check it.

    Raises:
      UserError: a point that cannot run, or a folder that holds something else.
    """
    points = product(values.grid) if values.grid else own_points(config_file(values))
    common = overrides(values)
    for key in set(common) & set(swept_keys(points)):
        raise UserError(f"{key} is swept, and --config.{key} is given for all; leave one out")
    check_folder(folder, values.config)
    named = zip(point_names(points), points, strict=True)
    return [make_point(config_file(values), folder / name, common, x) for name, x in named]


def make_point(file: str, workdir: Path, common: Changes, changes: Changes) -> Point:
    """Returns the point in this folder; raises UserError if main would refuse it."""
    given = [f"--config.{key}={value}" for key, value in {**common, **changes}.items()]
    arguments = (f"--config={file}", f"--workdir={workdir}", *given)
    try:
        run = check(command.parse(["", *arguments], main.define_flags, with_config=True))
    except UserError as error:
        raise UserError(f"point {workdir.name}: {error}") from error
    checksum = summary(run.config.data).checksum
    return Point(workdir, changes, arguments, as_json(run.config), checksum, run.notes)


def note_lines(points: Sequence[Point]) -> list[str]:
    """Returns each note of the points once, with the name of the point or their number."""
    lines = []
    for note in dict.fromkeys(note for point in points for note in point.notes):
        names = [point.name for point in points if note in point.notes]
        whose = f"{len(names)} of {len(points)} points" if len(names) > 1 else names[0]
        lines.append(wrap(f"{whose}: {note}"))
    return lines


def as_json(config: ConfigDict) -> Any:
    """Returns the config as JSON gives it back."""
    # JSON turns tuples into lists, so only this form can equal a config that was read from a file.
    return json.loads(json.dumps(config.to_dict()))


def check_folder(folder: Path, config: ConfigDict) -> None:
    """Raises UserError if the folder holds the sweep of another config, or something else."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / SWEEP).is_file():
        raise UserError(f"{folder} is not empty and holds no sweep; give another --workdir")
    try:
        old = ConfigDict(with_added({**json.loads((folder / SWEEP).read_text(encoding="utf-8"))}))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{folder / SWEEP} cannot be read ({error}); bring it back, or give another --workdir"
        ) from error
    changed = fixed_changes(old, ConfigDict(as_json(config)))
    if changed:
        raise UserError(
            f"{folder} holds a sweep of another config ({'; '.join(changed[:3])}); "
            "give another --workdir"
        )


def write_json(path: Path, content: Any) -> None:
    """Writes the content as JSON, all of it or nothing."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def exit_code(point: Point) -> int | None:
    """Returns the exit code of the point's run; None if it has not ended with this config and data.

    main refuses a run whose data have changed meanwhile, so that no table compares it with others.
    """
    path = point.workdir / RECORD
    record = {}
    with contextlib.suppress(OSError, ValueError, TypeError):  # missing, or half of a copy
        record = {**json.loads(path.read_text(encoding="utf-8"))}
    # After a change of the settings or the data the point is not done, whatever its folder holds.
    same_data = record.get("data", point.data) == point.data  # older records lack it
    same = record.get("config") == point.config and same_data
    return record.get("exit_code") if same else None


def state(point: Point) -> str:
    """Returns done, failed or unfinished."""
    return {0: "done", None: "unfinished"}.get(exit_code(point), "failed")


def start(point: Point) -> subprocess.Popen[bytes]:
    """Starts the point's run as a process of its own, which appends its output to log.txt."""
    point.workdir.mkdir(parents=True, exist_ok=True)
    (point.workdir / RECORD).unlink(missing_ok=True)  # until its end the run has no exit code
    # The run finds the package from any working directory.
    path = os.pathsep.join(filter(None, (str(TOP), os.environ.get("PYTHONPATH"))))
    with (point.workdir / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "alexnet_jax.main", *point.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path},
        )


def record_end(point: Point, code: int) -> str:
    """Writes the exit code of the point's run; returns a line on how it ended."""
    code = code if code >= 0 else 128 - code  # a signal, as the shell counts them
    write_json(
        point.workdir / RECORD, {"exit_code": code, "config": point.config, "data": point.data}
    )
    error = last_metrics(point.workdir).get(ERROR)
    result = "" if error is None else f", validation top-1 error {100 * error:.2f} %"
    return f"{point.name}: {state(point)}{result}"


def run_points(points: Sequence[Point], jobs: int, stop: Stop) -> None:
    """Runs the points that are not done yet, `jobs` at a time; a signal makes the runs save."""
    waiting = [point for point in points if state(point) != "done"]
    if len(waiting) < len(points):
        print(f"{len(points) - len(waiting)} of {len(points)} points are done already", flush=True)
    left, ended = iter(waiting), 0
    running: dict[subprocess.Popen[bytes], Point] = {}
    try:
        while ended < len(waiting) and not stop.signal:
            for point in itertools.islice(left, jobs - len(running)):
                running[start(point)] = point
            for process in [x for x in running if x.poll() is not None]:
                ended += 1
                line = record_end(running.pop(process), process.returncode)
                print(f"[{ended}/{len(waiting)}] {line}", flush=True)
            time.sleep(POLL_SECONDS)
    finally:
        # First all, then the waiting: the runs save at the same time.
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def last_metrics(workdir: Path) -> dict[str, float]:
    """Returns the last value of every metric in a run's metrics.jsonl."""
    path, last = workdir / metrics.FILE, {}
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        with contextlib.suppress(ValueError, TypeError):  # a line that is being written, or damaged
            last |= json.loads(line)
    return last


def table_rows(points: Sequence[Point]) -> list[list[Any]]:
    """Returns header and rows, the lowest validation error first, points without one last."""
    keys = swept_keys([point.changes for point in points])
    # The sort is stable: points without an error stay in the order of the grid.
    found = [(last_metrics(point.workdir), point) for point in points]
    found.sort(key=lambda pair: pair[0].get(ERROR, math.inf))
    rows = [
        [*(x.changes.get(k, "") for k in keys), *(m.get(k, "") for k in COLUMNS), state(x), x.name]
        for m, x in found
    ]
    return [[*keys, *HEADER], *rows]


def terminal_table(rows: Sequence[Sequence[Any]]) -> str:
    """Returns the columns of the table that a terminal of 80 columns has room for."""
    header, *body = rows
    keys = header[: -len(HEADER)]
    columns = {  # title: (column, format)
        "step": ("step", "{:.0f}"),
        "top-1 %": (ERROR, "{:.2%}"),
        "top-5 %": ("val/top5_error", "{:.2%}"),
        "val loss": ("val/loss", "{:.4f}"),
        "seconds": ("seconds", "{:.0f}"),
        "state": ("state", "{}"),
    }
    cells = [[*short_keys(keys).values(), *columns]]
    for row in body:
        values = dict(zip(header, row, strict=True))
        numbers = [
            form.format(values[name]).removesuffix("%") if values[name] != "" else "-"
            for name, form in columns.values()
        ]
        cells.append([*(str(values[key]) or "-" for key in keys), *numbers])
    return text_table(cells, left=len(keys))


def report(folder: Path, points: Sequence[Point]) -> int:
    """Writes and prints the table, names the points that failed; returns the exit code."""
    rows = table_rows(points)
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    write_text(folder / TABLE, text.getvalue())
    print(terminal_table(rows), f"table: {folder / TABLE}", sep="\n", flush=True)
    failed = [point for point in points if state(point) == "failed"]
    for point in failed:
        log = (point.workdir / LOG).read_text(errors="replace").split("\n")
        # A user's mistake ends the log with its error line, any other error with its traceback.
        last = next((line for line in reversed(log) if line.strip()), "its log is empty")
        print(f"failed: {point.name} (exit code {exit_code(point)}): {last}", file=sys.stderr)
    return 1 if failed else 0


def submit_points(values: flags.FlagValues, folder: Path, points: Sequence[Point]) -> None:
    """Submits the points that are not done as one array job; each task runs this file once."""
    # For people: what the task with the number of the line, from 0, trains.
    lines = [shlex.join(("python", "-m", "alexnet_jax.main", *x.arguments)) for x in points]
    write_text(folder / POINTS, "".join(f"{line}\n" for line in lines))
    task = [sys.executable, str(TOP / "launch" / "sweep.py"), f"--workdir={folder}"]
    task += [f"--config={config_file(values)}", *(f"--grid={text}" for text in values.grid)]
    task += [f"--config.{key}={value}" for key, value in overrides(values).items()]
    numbers = [i for i, point in enumerate(points) if state(point) != "done"]
    job = submit(task, array_of(numbers, len(points), values.jobs), folder)
    print(f"job {job}: {len(numbers)} points, numbered as in {folder / POINTS}")
    print("later: the same command with --table_only instead of --slurm prints the table")


def check_flags(values: flags.FlagValues, folder: Path) -> None:
    """Raises UserError for flags that exclude each other or that need something missing."""
    if values.slurm + values.table_only + (values.only is not None) > 1:
        raise UserError("--slurm, --table_only and --only exclude each other; give one of them")
    if values.slurm:
        check_sbatch()
    if values.table_only and not (folder / SWEEP).is_file():
        raise UserError(f"--table_only: no sweep in {folder}; run it without --table_only first")


def sweep(values: flags.FlagValues) -> int:
    """Runs, submits or reports the points as the flags say; returns the exit code."""
    folder = Path(values.workdir or f"runs/{Path(config_file(values)).stem}-sweep")
    check_flags(values, folder)
    points = plan_points(values, folder)
    # In the logs alone, they would be seen by nobody who compares the points in the table.
    for line in note_lines(points):
        print(line, flush=True)
    if values.table_only:
        return report(folder, points)
    if values.only is not None:
        if values.only >= len(points):
            raise UserError(f"--only={values.only}: the points have numbers below {len(points)}")
        points = [points[values.only]]
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / SWEEP).exists():
        write_json(folder / SWEEP, as_json(values.config))
    if values.slurm and any(state(point) != "done" for point in points):
        submit_points(values, folder, points)
        return 0
    print(f"{folder}: {len(points)} points, {values.jobs} at a time; see <point>/{LOG}", flush=True)
    parallel.release_devices()  # a check may have counted them
    stop = Stop()
    run_points(points, values.jobs, stop)
    if stop.signal:
        print("stopped: the runs saved; the same command goes on from there")
        return stop.exit_code
    return report(folder, points) if values.only is None else exit_code(points[0]) or 0


if __name__ == "__main__":
    sys.argv = [x for x in sys.argv if x != "--"]  # a -- before overrides has no meaning of its own
    command.run(sweep, define_flags, __doc__, with_config=True)
