"""Trains one run per point of a grid and ends with a table sorted by validation error.

Example:   python launch/sweep.py --config=configs/base.py --workdir=runs/my-sweep --jobs=2
               --grid=config.optim.learning_rate=0.01,0.02 --grid=config.model.activation=relu,tanh
               --config.train.epochs=5
Points:    all combinations of the grids. Commas in brackets or quotes do not divide values:
           --grid='config.model.without=(),("conv3",)'. Without a --grid, what the config file's own
           sweep() yields, a function beside get_config: {"optim.learning_rate": 0.02}, {}, …
           --config.key=value holds for all points; a -- may stand before such overrides.
Each run:  python -m alexnet_jax.main with workdir SWEEP/<point>, its output in <point>/log.txt.
Again:     the same command skips points that are done, resumes those that were stopped, and tries
           failed ones once more; a longer grid adds points.
The end:   the table, also in SWEEP/table.csv; failed points are named and the exit code is 1.
Machines:  several --jobs on one GPU: set XLA_PYTHON_CLIENT_MEM_FRACTION. --slurm submits one array
           job instead, --jobs of its tasks at a time; what a task needs is said in sbatch's own
           variables, such as SBATCH_PARTITION or SBATCH_GPUS. --table_only prints the table later.
"""

import contextlib
import csv
import hashlib
import itertools
import json
import math
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags
from jax.extend.backend import clear_backends
from ml_collections import ConfigDict, config_flags

from alexnet_jax import main
from alexnet_jax.cli import command
from alexnet_jax.cli.checks import check
from alexnet_jax.cli.restore_checks import fixed_changes
from alexnet_jax.errors import UserError
from alexnet_jax.runs import metrics
from alexnet_jax.runs.signals import Stop

TOP = Path(__file__).resolve().parent.parent
SWEEP, RECORD, LOG, TABLE, POINTS = "sweep.json", "point.json", "log.txt", "table.csv", "points.txt"
ERROR = "val/top1_error"
MEASURED = ("step", ERROR, "val/top5_error", "val/loss", "train/loss", "time")
HEADER = (*MEASURED[:-1], "seconds", "state", "point")
LONGEST_VALUE = 40  # characters of a value in a folder's name
SECONDS_BETWEEN_LOOKS = 0.1

Changes = Mapping[str, str]  # setting → its value as one types it


@dataclass(frozen=True)
class Point:
    """One run: what it changes, where it lies, main's arguments, its resolved config."""

    workdir: Path
    changes: Changes
    arguments: tuple[str, ...]
    config: Any  # as JSON would give it back

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.workdir.name


def define_flags(values: flags.FlagValues) -> None:
    """The flags besides --config."""
    own = {"flag_values": values}
    grid = "config.a.b=1,2: values of one setting; several grids are multiplied."
    flags.DEFINE_multi_string("grid", [], grid, **own)
    folder = "Folder of the sweep, with a folder for each point; empty = runs/<config>-sweep."
    flags.DEFINE_string("workdir", "", folder, **own)
    flags.DEFINE_integer("jobs", 1, "Points that run at a time.", lower_bound=1, **own)
    flags.DEFINE_bool("slurm", False, "Submit the points as one SLURM array job.", **own)
    flags.DEFINE_bool("table_only", False, "Run nothing; the table of what is there.", **own)
    only = "Run only the point with this number, counted from 0, and make no table."
    flags.DEFINE_integer("only", None, only, lower_bound=0, **own)


def is_closed(text: str) -> bool:
    """True if it closes every quote and bracket that it opens."""
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", text)
    pairs = ("()", "[]", "{}")
    return not {"'", '"'} & set(bare) and all(bare.count(a) == bare.count(b) for a, b in pairs)


def split(text: str) -> list[str]:
    """The values between commas outside brackets and quotes; a value all in quotes loses them.

    Raises:
      UserError: brackets or quotes that are not closed, an empty value.
    """
    values, begun = [], ""
    for piece in text.split(","):
        begun += piece
        if is_closed(begun):
            values.append(begun.strip())
            begun = ""
        else:
            begun += ","
    if begun:
        raise UserError("brackets or quotes are not closed")
    if not all(values):
        raise UserError("a value is empty; write '' if that is meant")
    return [re.sub(r"""^(["'])([^"']*)\1$""", r"\2", value) for value in values]


def product(grids: Sequence[str]) -> list[Changes]:
    """All combinations of config.key=values, the last key changing fastest.

    Raises:
      UserError: a grid without a key or values, or two of the same key.
    """
    values: dict[str, list[str]] = {}
    for text in grids:
        key, _, listed = text.partition("=")
        key = key.removeprefix("config.")
        if not text.startswith("config.") or not listed.strip():
            raise UserError(
                f"--grid={text} is no setting with values; "
                "write --grid=config.optim.learning_rate=0.01,0.02"
            )
        if key in values:
            raise UserError(f"--grid=config.{key} is given twice; put all values into one")
        try:
            values[key] = split(listed)
        except UserError as mistake:
            raise UserError(f"--grid={text}: {mistake}") from None
    return [dict(zip(values, x, strict=True)) for x in itertools.product(*values.values())]


def own_points(file: str) -> list[Changes]:
    """What the config file's sweep() yields; UserError if it has none or yields something else."""
    sweep = runpy.run_path(file).get("sweep")
    if sweep is None:
        raise UserError(f"nothing to sweep: give --grid=config.key=1,2 or write sweep() in {file}")
    try:
        points = [{str(key): str(value) for key, value in x.items()} for x in sweep()]
    except Exception as fault:
        form = "{'optim.learning_rate': 0.02}"
        raise UserError(f"sweep() in {file} has to yield dicts such as {form}: {fault}") from fault
    if not points:
        raise UserError(f"sweep() in {file} yields no point")
    return points


def swept(points: Sequence[Changes]) -> list[str]:
    """Every setting that some point changes."""
    return list(dict.fromkeys(key for point in points for key in point))


def file_safe(value: str) -> str:
    """The value itself if a folder's name can hold it, else what can be, and a hash of all."""
    safe = re.sub(r"[^A-Za-z0-9.+_-]+", "_", value)[:LONGEST_VALUE]
    digest = hashlib.sha256(value.encode()).hexdigest()[:6]
    return value if safe == value else "-".join(filter(None, (safe.strip("_"), digest)))


def point_names(points: Sequence[Changes]) -> list[str]:
    """A folder's name for each: learning_rate=0.02+activation=relu; UserError if two are the same.

    Without commas: main's --checkpoint has them between folders.
    """
    keys = swept(points)
    last = [key.split(".")[-1] for key in keys]
    short = {k: word if last.count(word) == 1 else k for k, word in zip(keys, last, strict=True)}
    names = ["+".join(f"{short[k]}={file_safe(v)}" for k, v in x.items()) or "base" for x in points]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"the point {name} is given twice; leave one out")
    return names


def config_file(values: flags.FlagValues) -> str:
    """The value of --config."""
    return config_flags.get_config_filename(values["config"])


def overrides(values: flags.FlagValues) -> dict[str, str]:
    """The settings that the command line changes for all points."""
    return {k: str(v) for k, v in config_flags.get_override_values(values["config"]).items()}


def plan(values: flags.FlagValues, folder: Path) -> list[Point]:
    """All points, each checked as main would check it; UserError for the first that cannot run."""
    points = product(values.grid) if values.grid else own_points(config_file(values))
    common = overrides(values)
    for key in set(common) & set(swept(points)):
        raise UserError(f"{key} is swept, and --config.{key} is given for all; leave one out")
    check_folder(folder, values.config)
    named = zip(point_names(points), points, strict=True)
    return [checked(config_file(values), folder / name, common, x) for name, x in named]


def checked(file: str, workdir: Path, common: Changes, changes: Changes) -> Point:
    """The point in this folder; UserError if main would refuse it."""
    given = [f"--config.{key}={value}" for key, value in {**common, **changes}.items()]
    arguments = (f"--config={file}", f"--workdir={workdir}", *given)
    try:
        config = check(command.parse(["", *arguments], main.define_flags, with_config=True)).config
    except UserError as mistake:
        raise UserError(f"point {workdir.name}: {mistake}") from mistake
    return Point(workdir, changes, arguments, as_json(config))


def as_json(config: ConfigDict) -> Any:
    """The config as JSON gives it back."""
    return json.loads(json.dumps(config.to_dict()))


def check_folder(folder: Path, config: ConfigDict) -> None:
    """Raises UserError if the folder holds the sweep of another config, or something else."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / SWEEP).is_file():
        raise UserError(f"{folder} is not empty and holds no sweep; give another --workdir")
    old, new = ConfigDict(json.loads((folder / SWEEP).read_text())), ConfigDict(as_json(config))
    changed = fixed_changes(old, new)
    if changed:
        raise UserError(
            f"{folder} holds a sweep of another config ({'; '.join(changed[:3])}); "
            "give another --workdir"
        )


def write(path: Path, content: Any) -> None:
    """JSON: the whole file or nothing of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def exit_code(point: Point) -> int | None:
    """How the point's run ended; None if it has not, or if that was with another config."""
    path = point.workdir / RECORD
    record = json.loads(path.read_text()) if path.exists() else {}
    return record["exit_code"] if record.get("config") == point.config else None


def state(point: Point) -> str:
    """Done, failed or unfinished."""
    return {0: "done", None: "unfinished"}.get(exit_code(point), "failed")


def start(point: Point) -> subprocess.Popen[bytes]:
    """The point's run as a process of its own, its output added to log.txt."""
    point.workdir.mkdir(parents=True, exist_ok=True)
    (point.workdir / RECORD).unlink(missing_ok=True)
    path = os.pathsep.join(filter(None, (str(TOP), os.environ.get("PYTHONPATH"))))
    with (point.workdir / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "alexnet_jax.main", *point.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path},
        )


def end(point: Point, code: int) -> str:
    """Writes how the run ended; returns what to say of it."""
    code = code if code >= 0 else 128 - code  # a signal, as the shell counts them
    write(point.workdir / RECORD, {"exit_code": code, "config": point.config})
    error = measured(point.workdir).get(ERROR)
    told = "" if error is None else f", validation top-1 error {100 * error:.2f} %"
    return f"{point.name}: {state(point)}{told}"


def run_points(points: Sequence[Point], jobs: int, stop: Stop) -> None:
    """Runs what is not done yet, `jobs` at a time; told to stop, it has the runs save and end."""
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
                told = end(running.pop(process), process.returncode)
                print(f"[{ended}/{len(waiting)}] {told}", flush=True)
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def measured(workdir: Path) -> dict[str, float]:
    """The last value of everything in a run's metrics.jsonl."""
    path, last = workdir / metrics.FILE, {}
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):  # a line that is being written
            last |= json.loads(line)
    return last


def table(points: Sequence[Point]) -> list[list[Any]]:
    """Header and rows, the lowest validation error first, points without one last."""
    keys = swept([point.changes for point in points])
    found = [(measured(point.workdir), point) for point in points]
    found.sort(key=lambda pair: pair[0].get(ERROR, math.inf))
    rows = [
        [*(x.changes.get(k, "") for k in keys), *(m.get(k, "") for k in MEASURED), state(x), x.name]
        for m, x in found
    ]
    return [[*keys, *HEADER], *rows]


def aligned(rows: Sequence[Sequence[Any]]) -> str:
    """The table in columns for the terminal."""
    cells = [[f"{x:.4f}" if isinstance(x, float) else str(x) or "-" for x in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)


def report(folder: Path, points: Sequence[Point]) -> int:
    """Writes and prints the table, names what failed; returns the exit code."""
    rows = table(points)
    with (folder / TABLE).open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    print(aligned([row[:-1] for row in rows]), f"table: {folder / TABLE}", sep="\n", flush=True)
    failed = [point for point in points if state(point) == "failed"]
    for point in failed:
        log = (point.workdir / LOG).read_text(errors="replace").split("\n")
        last = next((line for line in reversed(log) if line.strip()), "it said nothing")
        print(f"failed: {point.name} (exit code {exit_code(point)}): {last}", file=sys.stderr)
    return 1 if failed else 0


def submit(values: flags.FlagValues, folder: Path, points: Sequence[Point]) -> None:
    """One array job whose tasks are this command with --only=<their number>."""
    lines = [shlex.join(("python", "-m", "alexnet_jax.main", *x.arguments)) for x in points]
    (folder / POINTS).write_text("".join(f"{line}\n" for line in lines))
    task = [sys.executable, str(TOP / "launch" / "sweep.py"), f"--workdir={folder}"]
    task += [f"--config={config_file(values)}", *(f"--grid={text}" for text in values.grid)]
    task += [f"--config.{key}={value}" for key, value in overrides(values).items()]
    numbers = [str(i) for i, point in enumerate(points) if state(point) != "done"]
    array = f"0-{len(points) - 1}" if len(numbers) == len(points) else ",".join(numbers)
    options = {
        "job-name": "sweep",
        "ntasks": "1",
        "array": f"{array}%{values.jobs}",
        "output": f"{str(folder).replace('%', '%%')}/slurm-%A_%a.out",
        "wrap": f'exec {shlex.join(task)} --only="$SLURM_ARRAY_TASK_ID"',
    }
    arguments = ["sbatch", "--parsable", *(f"--{k}={v}" for k, v in options.items())]
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"sbatch refused the job: {done.stderr or done.stdout}")
    print(f"job {done.stdout.strip()}: {len(numbers)} points, numbered as in {folder / POINTS}")
    print("later: the same command with --table_only instead of --slurm prints the table")


def check_flags(values: flags.FlagValues, folder: Path) -> None:
    """Raises UserError for flags that exclude each other or ask for what is not there."""
    if values.slurm + values.table_only + (values.only is not None) > 1:
        raise UserError("--slurm, --table_only and --only exclude each other; give one of them")
    if values.slurm and not shutil.which("sbatch"):
        raise UserError("--slurm needs sbatch, which is not on the PATH; leave --slurm out")
    if values.table_only and not (folder / SWEEP).is_file():
        raise UserError(f"--table_only: no sweep in {folder}; run it without --table_only first")


def sweep(values: flags.FlagValues) -> int:
    """Does what the flags say; returns the exit code."""
    folder = Path(values.workdir or f"runs/{Path(config_file(values)).stem}-sweep")
    check_flags(values, folder)
    points = plan(values, folder)
    if values.table_only:
        return report(folder, points)
    if values.only is not None:
        if values.only >= len(points):
            raise UserError(f"--only={values.only}: the points have numbers below {len(points)}")
        points = [points[values.only]]
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / SWEEP).exists():
        write(folder / SWEEP, as_json(values.config))
    if values.slurm and any(state(point) != "done" for point in points):
        submit(values, folder, points)
        return 0
    print(f"{folder}: {len(points)} points, {values.jobs} at a time; see <point>/{LOG}", flush=True)
    clear_backends()  # where a check has counted the devices: they are the runs' now
    stop = Stop()
    run_points(points, values.jobs, stop)
    if stop.signal:
        print("stopped: the runs saved; the same command goes on from there")
        return stop.exit_code
    return report(folder, points) if values.only is None else exit_code(points[0]) or 0


if __name__ == "__main__":
    sys.argv = [x for x in sys.argv if x != "--"]  # overrides are the same before and behind it
    command.run(sweep, define_flags, __doc__, with_config=True)
