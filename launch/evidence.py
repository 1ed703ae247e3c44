"""Makes the runs behind results/: a queue that anyone can start again.

    python launch/evidence.py --data=data --work=runs/evidence
    python launch/evidence.py --claim=plateau

A run whose record lies in --output is skipped, an interrupted one is resumed. Each record is a
folder CLAIM/RUN with config.json, metrics.jsonl, run.json (command, commit, machine, seed, seconds)
and, of an evaluated run, predictions.npz. The stores are found in --data by name, or prepared from
--tiny_imagenet (a folder with train/WNID and test/WNID).
"""

import checkout  # noqa: F401  first: one error line if .venv is not active

# isort: split
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from absl import flags

from alexnet_jax.cli import command
from alexnet_jax.errors import UserError
from alexnet_jax.runs.machine import processor, versions

BIGGEST_METRICS = 100_000  # bytes of metrics.jsonl, above which only every 100th step is kept
CONV345 = ("conv3", "conv4", "conv5")
TINY = "configs/tiny_imagenet.py"
STDS, BIASES = (0.01, 0.03), (1.0, 0.1, 0.0)  # of the plateau's grid


@dataclass(frozen=True)
class Store:
    """A store to prepare from Tiny-ImageNet.

    Attributes:
      classes: number of its 200 classes, evenly spaced in the order of their names.
      pictures: of each class; 0 for all.
      arguments: further ones of `prepare`.
    """

    classes: int
    pictures: int
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One training, and the evaluations after it.

    Attributes:
      claim, name: folder of its record.
      config: config file.
      store: name of a store; empty for data that need none.
      settings: overrides by config key.
      views: of the evaluations on the test split.
    """

    claim: str
    name: str
    config: str
    store: str
    settings: Mapping[str, object] = field(default_factory=dict)
    views: tuple[int, ...] = ()


STORES = {
    "tiny64": Store(200, 0, ("--encoding=raw",)),
    "tiny64-50": Store(50, 0, ("--encoding=raw",)),
    "tiny64-10": Store(10, 0, ("--encoding=raw",)),
    "tiny256": Store(200, 100, ("--encoding=jpeg", "--image_size=256")),
}


def initial(std: float, bias: float) -> tuple[tuple[str, float, float], ...]:
    """Returns model.initial with this std in conv3 to conv5 and this bias where the paper has 1."""
    layers = [("conv2", 0.01, bias)]
    layers += [(name, std, 0.0 if name == "conv3" else bias) for name in CONV345]
    return (*layers, ("fc6", 0.01, bias), ("fc7", 0.01, bias))


def plateau_runs() -> Iterator[Run]:
    """Yields the runs that ask why the loss stays at ln(classes).

    The paper's net at half its width on Tiny-ImageNet, with other initial stds and biases, on 10,
    50 and 200 classes, then the paper's and the released stds at full size.
    """
    small = {
        "model.name": "alexnet",
        "optim.schedule": "constant",
        "train.steps": 1000,
        "train.log_every_steps": 10,
        "eval.every_epochs": 1000,
    }
    full = {
        **small,
        "train.steps": 150,
        "train.log_every_steps": 5,
        "data.image_size": 256,
        "data.crop_size": 224,
        "model.width": 1.0,
    }
    for std in reversed(STDS):
        settings = {**full, "model.initial": initial(std, 1.0)}
        yield Run("plateau", f"full_size_std_{std:g}_bias_1", TINY, "tiny256", settings)
    yield from (grid_run(200, std, bias, small) for std in STDS for bias in BIASES)
    fewer = {**small, "train.steps": 600}
    for classes in (50, 10):
        yield from (grid_run(classes, std, bias, fewer) for std in STDS for bias in BIASES)


def grid_run(classes: int, std: float, bias: float, settings: Mapping[str, object]) -> Run:
    """Returns one small run of the plateau's grid."""
    changed = {"model.initial": initial(std, bias), "model.num_classes": classes}
    store = "tiny64" if classes == 200 else f"tiny64-{classes}"
    name = f"{classes}_classes_std_{std:g}_bias_{bias:g}"
    return Run("plateau", name, TINY, store, {**settings, **changed})


def digits_runs() -> Iterator[Run]:
    """Yields the quickstart's run with three seeds."""
    for seed in range(3):
        yield Run("digits", f"seed{seed}", "configs/base.py", "", {"seed": seed}, views=(1,))


CLAIMS = {"digits": digits_runs, "plateau": plateau_runs}
FLAGS = {
    "claim": ("", f"One of {', '.join(CLAIMS)}; empty = all."),
    "data": ("data", "Folder of the stores."),
    "work": ("runs/evidence", "Folder of the workdirs."),
    "output": ("results", "Folder of the records."),
    "tiny_imagenet": ("", "Tiny-ImageNet's folder, to prepare stores that are missing."),
}


def define_flags(values: flags.FlagValues) -> None:
    """Declares the command's flags."""
    command.define(values, FLAGS)


def call(*words: object) -> None:
    """Runs a command of the package to its end; raises UserError if it fails."""
    arguments = [sys.executable, "-m", *map(str, words)]
    if subprocess.run(arguments).returncode:
        raise UserError(f"{' '.join(map(str, words))} failed; the queue can be started again")


def link_pictures(source: Path, folder: Path, store: Store) -> None:
    """Makes a folder of symbolic links to the pictures of a store."""
    classes = sorted(entry.name for entry in (source / "train").iterdir())
    spaced = np.linspace(0, len(classes) - 1, store.classes).round().astype(int)
    chosen = [classes[i] for i in spaced]
    for split in ("train", "test"):
        for name in chosen:
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            pictures = sorted((source / split / name).iterdir())
            for picture in pictures[: store.pictures or None]:
                link = folder / split / name / picture.name
                if not link.exists():
                    link.symlink_to(picture.resolve())


def prepare_store(name: str, data: Path, source: str) -> None:
    """Prepares a store of Tiny-ImageNet unless it exists or none is needed."""
    if not name or (data / name / "manifest.json").is_file():
        return
    if not source:
        raise UserError(f"there is no store {data / name}; give --tiny_imagenet to prepare it")
    folder = data / f"{name}-pictures"
    link_pictures(Path(source), folder, STORES[name])
    arguments = (f"--source={folder}", f"--dir={data / name}", *STORES[name].arguments)
    call("alexnet_jax.prepare", "--name=folder", *arguments)


def arguments_of(run: Run, data: Path) -> list[str]:
    """Returns the command line of a run, but for its workdir and mode."""
    settings = {**({"data.dir": data / run.store} if run.store else {}), **run.settings}
    return [f"--config={run.config}", *(f"--config.{key}={x}" for key, x in settings.items())]


def thinned(lines: Iterable[str]) -> Iterator[str]:
    """Yields the lines of validations, of the ends of epochs and of every 100th step."""
    for line in lines:
        values = json.loads(line)
        if "train/loss" not in values or "train/epoch_loss" in values or not values["step"] % 100:
            yield line


def write_record(run: Run, workdir: Path, folder: Path, arguments: list[str], start: float) -> None:
    """Copies what proves a finished run into its record's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((workdir / "config.json").read_text())
    if run.store:
        config["data"]["dir"] = f"data/{run.store}"  # wherever it lay on this machine
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    big = sum(map(len, lines)) > BIGGEST_METRICS
    (folder / "metrics.jsonl").write_text("".join(thinned(lines) if big else lines))
    training = max(json.loads(line)["time"] for line in lines)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    record = {
        "command": " ".join(["python -m alexnet_jax.main", *arguments_of(run, Path("data"))]),
        "commit": commit.strip(),
        "seed": config["seed"],
        "training_seconds": training,
        "wall_seconds": round(time.time() - start, 1),
        "machine": {"processor": processor(), "cores": os.cpu_count(), **versions()},
    }
    for views in run.views:
        record |= {f"{views}_views": evaluation(workdir, folder, arguments, views)}
    (folder / "run.json").write_text(json.dumps(record, indent=1) + "\n")


def evaluation(workdir: Path, folder: Path, arguments: list[str], views: int) -> dict[str, float]:
    """Evaluates a workdir's newest checkpoint on the test split; keeps each picture's classes."""
    file = workdir / "probabilities.npz"
    options = ("--mode=eval", f"--config.eval.views={views}", f"--probabilities={file}")
    call("alexnet_jax.main", *arguments, f"--workdir={workdir}", *options)
    with np.load(file) as arrays:
        best = np.argsort(-arrays["probabilities"], axis=1, kind="stable")[:, :5]
        kind = np.uint8 if arrays["probabilities"].shape[1] <= 256 else np.uint16
        np.savez_compressed(folder / f"predictions_{views}_views.npz", top5=best.astype(kind))
    return json.loads((workdir / "eval.json").read_text())


def main(values: flags.FlagValues) -> int:
    """Makes the runs whose records are missing; returns the exit code."""
    if values.claim and values.claim not in CLAIMS:
        raise UserError(f"--claim={values.claim} is unknown; choose from {', '.join(CLAIMS)}")
    data, work, output = Path(values.data), Path(values.work), Path(values.output)
    claims = [values.claim] if values.claim else list(CLAIMS)
    for run in (run for claim in claims for run in CLAIMS[claim]()):
        folder, workdir = output / run.claim / run.name, work / run.claim / run.name
        if (folder / "run.json").is_file():
            continue
        print(f"{run.claim}/{run.name}", flush=True)
        prepare_store(run.store, data, values.tiny_imagenet)
        arguments, start = arguments_of(run, data), time.time()
        call("alexnet_jax.main", *arguments, f"--workdir={workdir}")
        write_record(run, workdir, folder, arguments, start)
    return 0


if __name__ == "__main__":
    command.run(main, define_flags, __doc__)
