"""A run's files in its workdir: its config, and its checkpoints, intact and damaged.

    DIR/config.json
    DIR/eval.json, predictions.npz     the result of an evaluation
    DIR/checkpoints/<step>/            complete, on the disk, with checksums of its files
    DIR/checkpoints/<step>.saving…     being written, or left by a run that was killed meanwhile
    DIR/checkpoints/<step>.bad         was damaged when training went on from an older step
    DIR/checkpoints/<step>.old         being removed

A step gets its bare number by a rename, once its checksums are on the disk: no step is ever seen
half-written. Nothing is removed before a newer intact step exists.
"""

import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.disk import checksums
from alexnet_jax.disk.durable import path_to_disk, write_text
from alexnet_jax.errors import UserError, is_utf8
from alexnet_jax.runs import rules
from alexnet_jax.runs.added_settings import with_added
from alexnet_jax.runs.declared import missing_key, wrong_type

CONFIG = "config.json"
EVALUATION = "eval.json"
PREDICTIONS = "predictions.npz"
FOLDER = "checkpoints"
VALIDATION = "validation.json"
ERROR = "val/top1_error"


def locate(path: Path) -> tuple[Path, int | None]:
    """Returns a user's path as (workdir, step); the step is None for a path to a workdir."""
    if path.parent.name == FOLDER and path.name.isdigit():
        return path.parent.parent, int(path.name)
    return path, None


def check_is_workdir(path: Path) -> None:
    """Raises UserError if --workdir names one of a run's checkpoints instead of its workdir."""
    workdir, step = locate(path)
    if step is not None:
        raise UserError(
            f"--workdir={path} is a checkpoint of the run in {workdir}; give a workdir (main "
            "evaluates a checkpoint with --checkpoint, and starts from it with --config.init_from)"
        )


def check_encoding(path: Path) -> None:
    """Raises UserError unless the absolute path is UTF-8: orbax can save in no other folder."""
    # Absolute, because a folder above the working directory may have such a name.
    place = str(path.absolute())
    if not is_utf8(place):
        raise UserError(f"the path {place!a} is not UTF-8; rename the folder")


def workdir_of(path: Path) -> Path:
    """Returns the workdir of a checkpoint named as workdir or workdir/checkpoints/STEP."""
    return locate(path)[0]


def results(workdir: Path) -> list[str]:
    """Returns the names of an evaluation's files that a folder holds."""
    return [name for name in (EVALUATION, PREDICTIONS) if (workdir / name).exists()]


def step_folder(workdir: Path, step: int) -> Path:
    """Returns the folder of a saved step."""
    return workdir / FOLDER / str(step)


def draft_folder(workdir: Path, step: int) -> Path:
    """Returns the folder in which a step is written before it is complete."""
    return workdir / FOLDER / f"{step}.saving"


def steps(workdir: Path) -> list[int]:
    """Returns the saved steps of a workdir, intact or not, ascending."""
    return sorted(int(x.name) for x in _entries(workdir) if x.name.isdigit())


def _entries(workdir: Path) -> Iterator[Path]:
    folder = workdir / FOLDER
    return folder.iterdir() if folder.is_dir() else iter(())


def newest_good(workdir: Path) -> tuple[int, list[str]]:
    """Returns the newest intact step of a workdir, and a line on the damage of every newer one.

    Raises:
      UserError: there is no intact step; the message names the damage of each.
    """
    damages = []
    for step in reversed(steps(workdir)):
        damage = checksums.damage(step_folder(workdir, step))
        if not damage:
            return step, damages
        damages.append(f"checkpoint {step_folder(workdir, step)} is bad: {damage}")
    if not damages:
        raise UserError(
            f"no checkpoint in {workdir}; check the path, or train with --workdir={workdir} first"
        )
    raise UserError(
        f"no good checkpoint in {workdir}; nothing was removed; bring one back, or train "
        f"in another --workdir ({'; '.join(damages)})"
    )


def find_good(path: Path) -> tuple[int, list[str]]:
    """Returns the step that a path names, and a line on the damage of every newer one.

    Args:
      path: workdir/checkpoints/STEP, or a workdir for its newest intact step.

    Raises:
      UserError: the step is missing or damaged.
    """
    check_encoding(path)
    workdir, step = locate(path)
    if step is None:
        return newest_good(workdir)
    if step not in steps(workdir):
        saved = ", ".join(map(str, steps(workdir))) or "none"
        raise UserError(f"no checkpoint {path}; the steps of {workdir} are: {saved}")
    damage = checksums.damage(step_folder(workdir, step))
    if damage:
        raise UserError(f"checkpoint {path} is bad: {damage}; name another step, or the workdir")
    return step, []


def good_step(path: Path) -> int:
    """Returns the step that a path names as `find_good` does; prints which newer ones are bad."""
    step, damages = find_good(path)
    for damage in damages:
        print(f"{damage}; step {step} is taken instead", flush=True)
    return step


def check_restorable(path: Path) -> None:
    """Raises UserError unless the path names an intact checkpoint of a run with a config."""
    find_good(path)
    if not (workdir_of(path) / CONFIG).is_file():
        raise UserError(f"{workdir_of(path)} has no {CONFIG}; name a workdir that main has written")


def set_bad_aside(workdir: Path, good: int) -> None:
    """Renames the steps newer than the good one, because training is going to write them again."""
    for step in steps(workdir):
        if step > good:  # they are damaged: `good` is the newest intact one
            aside = step_folder(workdir, step).with_suffix(".bad")
            shutil.rmtree(aside, ignore_errors=True)  # an earlier copy
            step_folder(workdir, step).rename(aside)


def is_saved(workdir: Path, step: int, validated: bool) -> bool:
    """True if this step is saved, and saved with a validation error when `validated` is set."""
    saved = step in steps(workdir)
    return saved and not (validated and _validation_error(workdir, step) == math.inf)


def bring_back(workdir: Path) -> None:
    """Restores the older copy of a step whose replacement was killed between its two renames."""
    for old in workdir.glob(f"{FOLDER}/*.old"):
        if not old.with_suffix("").exists() and not checksums.damage(old):
            old.rename(old.with_suffix(""))


def unfinished(workdir: Path) -> list[str]:
    """Returns the names of the folders that interrupted saves have left behind."""
    return sorted(x.name for x in _entries(workdir) if ".saving" in x.name)


def discard(workdir: Path, step: int) -> None:
    """Removes the files of a failed save, also those that its threads are still writing."""
    # Threads of orbax may create files after the first rmtree, so it is repeated for two seconds.
    for _ in range(20):
        drafts = list(workdir.glob(f"{FOLDER}/{step}.saving*"))
        if not drafts:
            return
        for draft in drafts:
            shutil.rmtree(draft, ignore_errors=True)
        time.sleep(0.1)


def commit(workdir: Path, step: int, error: float | None, keep: int) -> None:
    """Turns a draft into a checkpoint, then removes what is no longer needed.

    Args:
      workdir: of the run.
      step: of the draft.
      error: top-1 validation error at this step, from 0 to 1; None without a validation.
      keep: number of newest steps that stay; the best stays as well.
    """
    draft = draft_folder(workdir, step)
    write_text(draft / VALIDATION, json.dumps({"step": step, ERROR: error}) + "\n")
    checksums.seal(draft)  # last, so that it covers every file of the draft
    _retire(workdir, step)
    # A rename onto a folder with files fails, so the older copy was renamed first; a kill between
    # the two is what `bring_back` mends.
    draft.rename(step_folder(workdir, step))
    # The rename itself is on the disk only now; older steps may go.
    path_to_disk(workdir / FOLDER)
    _tidy(workdir, keep)


def _retire(workdir: Path, step: int) -> None:
    """Renames a step before it is removed, so that a half-removed one is no checkpoint."""
    old = step_folder(workdir, step).with_suffix(".old")
    if step in steps(workdir):
        shutil.rmtree(old, ignore_errors=True)
        step_folder(workdir, step).rename(old)


def _tidy(workdir: Path, keep: int) -> None:
    saved = steps(workdir)
    errors = {step: _validation_error(workdir, step) for step in saved}
    best = min(errors, key=errors.get)  # of equal errors the earliest, since `saved` ascends
    # The best is spared; a step without a validation is never the best.
    for step in saved[:-keep]:
        if step == best and errors[best] < math.inf:
            continue
        _retire(workdir, step)
    for entry in list(_entries(workdir)):
        number, _, ending = entry.name.partition(".")
        # Only names that this program gives: a user's own folder stays.
        ours = ending in ("bad", "old") or ending.startswith("saving")
        # A newer draft may be under way, and a newer .bad has no intact successor yet.
        if ours and number.isdigit() and int(number) <= saved[-1]:
            shutil.rmtree(entry, ignore_errors=True)


def _validation_error(workdir: Path, step: int) -> float:
    try:
        error = json.loads((step_folder(workdir, step) / VALIDATION).read_text(encoding="utf-8"))[
            ERROR
        ]
    except (OSError, ValueError, TypeError, KeyError):
        return math.inf  # a damaged step is not the best
    return math.inf if error is None else error  # None: saved without a validation


def read_config(path: Path) -> ConfigDict:
    """Reads the resolved config of the run that a checkpoint belongs to; lists become tuples.

    Settings that did not exist when the run began get the value that leaves it unchanged.

    Raises:
      UserError: it cannot be read, or a setting is missing or has a value that no run can have.
    """
    file = workdir_of(path) / CONFIG
    try:
        values = {**json.loads(file.read_text(encoding="utf-8"))}
        if not {"data", "model"} <= values.keys():
            raise ValueError("it has no data and no model")
        # JSON has no tuples, and a list would differ from the config's tuple.
        config = ConfigDict(_tuples(with_added(values)))
        _check_settings(config)
        return config
    # RecursionError: nested too deeply.
    except (OSError, ValueError, TypeError, RecursionError, UserError) as error:
        raise UserError(
            f"{file} cannot be read ({error}); correct it, or train in another --workdir"
        ) from error


def _check_settings(config: ConfigDict) -> None:
    """Raises ValueError or UserError unless a run can have these settings: files are edited."""
    settings = dict(rules.flat(config))
    if key := missing_key(settings):
        raise ValueError(f"it lacks {key}")
    if line := wrong_type(settings):
        raise ValueError(line)
    rules.check(config)
    if config.model.num_classes is None:  # unset in a config file only
        raise ValueError("model.num_classes is null")


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(x) for key, x in value.items()}
    return tuple(_tuples(x) for x in value) if isinstance(value, list) else value


def write_config(workdir: Path, config: ConfigDict) -> None:
    """Writes config.json: every setting of the run, resolved."""
    write_text(workdir / CONFIG, json.dumps(config.to_dict(), indent=2) + "\n")
