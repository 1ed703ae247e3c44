"""Makes the runs behind results/: a queue that anyone can start again.

    python launch/evidence.py --data=data --work=runs/evidence
    python launch/evidence.py --claim=plateau,ablations --jobs=4

launch/claims.py lists the runs. A run whose record lies in --output is
skipped, an interrupted one is resumed. A run that a missing one starts from,
or evaluates with others, is made again if its checkpoints are gone from
--work. Each record is a folder CLAIM/RUN with config.json, metrics.jsonl,
run.json (command, commit, machine, seed, seconds), predictions_*.npz of an
evaluated run and, where a claim needs them, kernels.npz of the first layer.
The stores are found in --data by name, or prepared from --tiny_imagenet: the
folder tiny-imagenet-200 as its makers pack it, or one with train/WNID and
test/WNID. On a GPU, small nets leave room for several runs at once: --jobs.
"""

import checkout  # noqa: F401  first: one error line if .venv is not active

# isort: split
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from absl import flags
from claims import CLAIMS, Ensemble, Run, runs
from tiny_imagenet_stores import STORES, link_pictures, read_tiny_imagenet

from alexnet_jax.cli import command
from alexnet_jax.errors import UserError
from alexnet_jax.runs import rules
from alexnet_jax.runs.finite import ADVICE
from alexnet_jax.runs.machine import ENVIRONMENT
from alexnet_jax.runs.predictions import read_predictions
from alexnet_jax.runs.workdir import read_config, steps
from alexnet_jax.weights.hub import load_hub

BIGGEST_METRICS = 200_000  # bytes of a record's metrics.jsonl, above which steps are left out
PREPARED = "manifest.json"  # prepare writes it last, so a folder that has it is a complete store


@dataclass(frozen=True)
class Folders:
    """The folders of a queue.

    Attributes:
      data: of the stores.
      work: of the workdirs.
      output: of the records.
    """

    data: Path
    work: Path
    output: Path

    def workdir(self, run: Run | Ensemble) -> Path:
        """Returns the run's workdir."""
        return self.work / run.claim / run.name

    def record(self, run: Run | Ensemble) -> Path:
        """Returns the folder of the run's record."""
        return self.output / run.claim / run.name


# The commands in the records use the default folders, wherever a queue's own folders are.
PUBLIC = Folders(Path("data"), Path("runs/evidence"), Path("results"))
FLAGS = {
    "claim": ([], f"Some of {', '.join(CLAIMS)}, commas between; empty = all."),
    "data": ("data", "Folder of the stores."),
    "work": ("runs/evidence", "Folder of the workdirs."),
    "output": ("results", "Folder of the records."),
    "tiny_imagenet": ("", "Tiny-ImageNet's folder, to prepare stores that are missing."),
    "jobs": (1, "Runs at once."),
}


def define_flags(values: flags.FlagValues) -> None:
    """Declares the command's flags."""
    command.define(values, FLAGS)


def call(log: Path, *words: object) -> None:
    """Runs a command of the package to its end.

    Its output goes to the log, which a later call appends to.

    Args:
      log: text file.
      words: module, such as alexnet_jax.main, and its flags.

    Raises:
      UserError: it failed; the message ends with its last line.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    arguments = [sys.executable, "-m", *map(str, words)]
    # Both streams in one: an error line is then the last line.
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with log.open("a") as file:
        file.write(f"{' '.join(map(str, words))}\n{done.stdout}")
    if done.returncode:
        last = done.stdout.splitlines()[-1:]
        raise UserError(f"{' '.join(map(str, words))} failed, see {log}: {''.join(last)}")


def prepare_store(name: str, data: Path, source: str) -> None:
    """Prepares a store of Tiny-ImageNet unless it exists or none is needed."""
    if not name or (data / name / PREPARED).is_file():
        return
    if name not in STORES or not source:
        mend = "give --tiny_imagenet to prepare it" if name in STORES else "see docs/data.md"
        raise UserError(f"there is no store {data / name}; {mend}")
    folder, store = data / f"{name}-pictures", STORES[name]
    link_pictures(read_tiny_imagenet(source), folder, store)
    arguments = (f"--source={folder}", f"--dir={data / name}", "--encoding=raw")
    # 64 pixels is the pictures' own size: they are stored as they are.
    size = (f"--image_size={store.size}",) if store.size != 64 else ()
    call(data / f"{name}.log", "alexnet_jax.prepare", "--name=folder", *arguments, *size)


def arguments_of(run: Run, folders: Folders) -> list[str]:
    """Returns the flags of a run for alexnet_jax.main, without its workdir and mode."""
    settings = dict(run.settings)
    if run.store:
        settings["data.dir"] = folders.data / run.store
    if run.starts_from:
        settings["init_from"] = folders.workdir(replace(run, name=run.starts_from))
    return [f"--config={run.config}", *(f"--config.{key}={x}" for key, x in settings.items())]


def thinned(lines: Iterable[str], every: int) -> Iterator[str]:
    """Yields the lines of validations, of ends of epochs, and of steps that `every` divides."""
    for line in lines:
        values = json.loads(line)
        if "train/loss" not in values or "train/epoch_loss" in values or not values["step"] % every:
            yield line


def shortened(lines: list[str]) -> list[str]:
    """Returns the lines of metrics.jsonl, with fewer steps the longer the run was."""
    kept = lines
    for every in (100, 1000, 10_000):
        if sum(map(len, kept)) <= BIGGEST_METRICS:
            break
        kept = list(thinned(lines, every))
    return kept


def train(run: Run, folders: Folders) -> bool:
    """Trains a run to its end; returns True if its loss or its parameters became NaN or infinite.

    A run that was interrupted is resumed.

    Raises:
      UserError: it failed for another reason.
    """
    workdir = folders.workdir(run)
    try:
        arguments = arguments_of(run, folders)
        call(log_of(workdir), "alexnet_jax.main", *arguments, f"--workdir={workdir}")
    except UserError as error:
        # Only the two messages of runs.finite have these words.
        if ADVICE not in str(error):
            raise
        return True
    return False


def log_of(workdir: Path) -> Path:
    """Returns the log of a run's commands, beside its workdir."""
    return workdir.with_name(f"{workdir.name}.log")


def commit() -> str:
    """Returns the checkout's commit; "" outside a repository."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip()


def write_record(run: Run, folders: Folders, diverged: bool, seconds: float, jobs: int) -> None:
    """Evaluates a finished run and writes the files of its record.

    Args:
      run: the run.
      folders: of the queue.
      diverged: its loss or its parameters became NaN or infinite; it is then not evaluated.
      seconds: that this process has waited for the training.
      jobs: runs at once, which share the machine.
    """
    folder, workdir = folders.record(run), folders.workdir(run)
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((workdir / "config.json").read_text())
    if run.store:
        config["data"]["dir"] = f"data/{run.store}"  # wherever it lay on this machine
    if run.starts_from:
        config["init_from"] = str(PUBLIC.workdir(replace(run, name=run.starts_from)))
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(shortened(lines)))
    record = {
        "command": " ".join(["python -m alexnet_jax.main", *arguments_of(run, PUBLIC)]),
        "commit": commit(),
        "seed": config["seed"],
        "diverged": diverged,
        # The time in metrics.jsonl goes on over restarts; wall_seconds is that of the last start.
        "training_seconds": max(json.loads(line)["time"] for line in lines),
        "wall_seconds": round(seconds, 1),
        "runs_at_once": jobs,
        "machine": json.loads((workdir / ENVIRONMENT).read_text()),
    }
    for views in () if diverged else run.views:
        arguments = [*arguments_of(run, folders), f"--workdir={workdir}"]
        record |= {f"{views}_views": evaluation(workdir, folder, arguments, views)}
    if run.kernels and not diverged:
        write_kernels(workdir, folder)
    # Last, because a run with a run.json counts as done.
    (folder / "run.json").write_text(json.dumps(record, indent=1) + "\n")


def evaluation(workdir: Path, folder: Path, arguments: list[str], views: int) -> dict[str, float]:
    """Evaluates a run or an ensemble on the test split; returns the content of eval.json.

    The record gets predictions_N_views.npz: `top5`, the five likeliest classes of each picture.

    Args:
      workdir: that eval.json is written to.
      folder: of the record.
      arguments: flags of alexnet_jax.main.
      views: 1 or 10.
    """
    options = ("--mode=eval", f"--config.eval.views={views}")
    call(log_of(workdir), "alexnet_jax.main", *arguments, *options)
    found = read_predictions(workdir)
    kind = np.uint8 if len(found.class_names) <= 256 else np.uint16  # records are kept small
    best = found.classes[:, :5].astype(kind)
    np.savez_compressed(folder / f"predictions_{views}_views.npz", top5=best)
    return json.loads((workdir / "eval.json").read_text())


def write_kernels(workdir: Path, folder: Path) -> None:
    """Writes kernels.npz of a record: conv1, float16 [towers, size, size, 3, maps of a tower]."""
    with tempfile.TemporaryDirectory() as exported:
        target = Path(exported) / "net"
        # Another process reads the checkpoint: jax here would take a GPU's memory from the runs.
        call(log_of(workdir), "alexnet_jax.export", f"--checkpoint={workdir}", f"--to={target}")
        kernels = load_hub(target).params["conv1"]["kernel"]
    np.savez_compressed(folder / "kernels.npz", conv1=kernels.astype(np.float16))


def make_ensemble(ensemble: Ensemble, folders: Folders) -> None:
    """Evaluates an ensemble and writes its record."""
    start = time.time()
    folder, workdir = folders.record(ensemble), folders.workdir(ensemble)
    workdir.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    members = [str(folders.workdir(replace(ensemble, name=name))) for name in ensemble.members]
    arguments = [f"--checkpoint={','.join(members)}", f"--workdir={workdir}"]
    named = [str(PUBLIC.workdir(replace(ensemble, name=name))) for name in ensemble.members]
    evaluated = {
        f"{views}_views": evaluation(workdir, folder, arguments, views) for views in ensemble.views
    }
    record = {
        "command": f"python -m alexnet_jax.main --mode=eval --checkpoint={','.join(named)}",
        "members": ensemble.members,
        "commit": commit(),
        "wall_seconds": round(time.time() - start, 1),
        # The members' workdirs and this queue are on one machine.
        "machine": json.loads((Path(members[0]) / ENVIRONMENT).read_text()),
        **evaluated,
    }
    (folder / "run.json").write_text(json.dumps(record, indent=1) + "\n")


def make(run: Run | Ensemble, folders: Folders, jobs: int) -> None:
    """Makes the record of a run or an ensemble."""
    print(f"{run.claim}/{run.name}", flush=True)
    if isinstance(run, Ensemble):
        return make_ensemble(run, folders)
    start = time.time()
    diverged = train(run, folders)
    write_record(run, folders, diverged, time.time() - start, jobs)


def read_by(run: Run | Ensemble) -> tuple[str, ...]:
    """Returns the names of the claim's runs whose checkpoints a run reads."""
    if isinstance(run, Ensemble):
        return run.members
    return (run.starts_from,) if run.starts_from else ()


def other_settings(run: Run, record: Path) -> list[str]:
    """Returns the settings in which a run and its record differ.

    They have the form `key: value of the record → value of the claim`.
    """
    old = dict(rules.flat(read_config(record)))
    return [
        f"{key}: {old.get(key)!r} → {value!r}"
        for key, value in run.settings.items()
        if old.get(key) != value
    ]


def is_missing(run: Run | Ensemble, folders: Folders) -> bool:
    """True if a run has no record, or one that lacks an evaluation.

    Prints a line if the record is of other settings; such a run does not count as missing.
    """
    folder = folders.record(run)
    if not (folder / "run.json").is_file():
        return True
    changed = [] if isinstance(run, Ensemble) else other_settings(run, folder)
    if changed:
        more = "; ".join(changed[:3])
        print(f"{folder} is of other settings ({more}): delete it to make it again", flush=True)
        return False
    record = json.loads((folder / "run.json").read_text())
    evaluated = record.get("diverged") or all(f"{n}_views" in record for n in run.views)
    return not evaluated


def to_make(claim: Sequence[Run | Ensemble], folders: Folders) -> list[Run | Ensemble]:
    """Returns the runs of a claim to make: those that are missing, and those that they read.

    A run that others read is made again if its workdir has no checkpoint.
    """
    missing = [run for run in claim if is_missing(run, folders)]
    read = {name for run in missing for name in read_by(run)}
    lost = [run for run in claim if run.name in read and not steps(folders.workdir(run))]
    return [run for run in claim if run in missing or run in lost]


def make_claim(claim: str, folders: Folders, source: str, jobs: int) -> None:
    """Makes the records of a claim that are missing, several at once."""
    missing = to_make(list(runs(claim, folders.output)), folders)
    stores = {run.store for run in missing if isinstance(run, Run)}
    for store in sorted(stores):
        prepare_store(store, folders.data, source)
    # Ensembles and fine-tuned runs come later: they read checkpoints of the others.
    for later in (False, True):
        ready = [run for run in missing if bool(read_by(run)) == later]
        with ThreadPoolExecutor(jobs) as pool:
            # list, because the first error is raised only when the results are taken.
            list(pool.map(partial(make, folders=folders, jobs=jobs), ready))


def main(values: flags.FlagValues) -> int:
    """Makes the runs whose records are missing; returns the exit code."""
    for claim in values.claim:
        if claim not in CLAIMS:
            raise UserError(f"--claim={claim} is unknown; choose from {', '.join(CLAIMS)}")
    if values.jobs < 1:
        raise UserError(f"--jobs={values.jobs} has to be 1 or more")
    if values.tiny_imagenet:
        read_tiny_imagenet(values.tiny_imagenet)  # a wrong folder is named before anything is run
    folders = Folders(Path(values.data), Path(values.work), Path(values.output))
    for claim in values.claim or CLAIMS:
        make_claim(claim, folders, values.tiny_imagenet, values.jobs)
    return 0


if __name__ == "__main__":
    command.run(main, define_flags, __doc__)
