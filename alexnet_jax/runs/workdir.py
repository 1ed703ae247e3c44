"""What a run leaves in its workdir: the config and the checkpoints, which are good, which may go.

    DIR/config.json
    DIR/checkpoints/<step>/            whole, on the disk, and with a record of its content
    DIR/checkpoints/<step>.saving…     being written, or left by a run that was killed meanwhile
    DIR/checkpoints/<step>.bad         did not match its record when training went on from an older

A step gets its bare number by a rename, once its record is on the disk: no step is ever half
there. Nothing is removed before a newer good step is.
"""

import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import checksums
from alexnet_jax.durable import path_to_disk, write_text
from alexnet_jax.errors import UserError

CONFIG = "config.json"
FOLDER = "checkpoints"
VALIDATION = "validation.json"
ERROR = "val/top1_error"


def locate(path: Path) -> tuple[Path, int | None]:
    """A user's DIR as (workdir, step): workdir/checkpoints/STEP, or a workdir and None."""
    if path.parent.name == FOLDER and path.name.isdigit():
        return path.parent.parent, int(path.name)
    return path, None


def workdir_of(path: Path) -> Path:
    """The workdir that a checkpoint given as workdir or workdir/checkpoints/STEP belongs to."""
    return locate(path)[0]


def step_folder(workdir: Path, step: int) -> Path:
    """Where a saved step lies."""
    return workdir / FOLDER / str(step)


def draft_folder(workdir: Path, step: int) -> Path:
    """Where a step is written before it is known to be good."""
    return workdir / FOLDER / f"{step}.saving"


def steps(workdir: Path) -> list[int]:
    """The steps that a workdir holds, good or not, ascending."""
    return sorted(int(x.name) for x in _entries(workdir) if x.name.isdigit())


def _entries(workdir: Path) -> Iterator[Path]:
    folder = workdir / FOLDER
    return folder.iterdir() if folder.is_dir() else iter(())


def newest_good(workdir: Path) -> tuple[int, list[str]]:
    """The newest step whose content is what was saved, and what is wrong with every newer one.

    Raises UserError if there is none: what is wrong with each.
    """
    faults = []
    for step in reversed(steps(workdir)):
        fault = checksums.fault(step_folder(workdir, step))
        if not fault:
            return step, faults
        faults.append(f"checkpoint {step_folder(workdir, step)} is bad: {fault}")
    if not faults:
        raise UserError(f"no checkpoint in {workdir}; train with --workdir={workdir} first")
    raise UserError(
        f"no good checkpoint in {workdir}; nothing was removed; bring one back, or train "
        f"in another --workdir ({'; '.join(faults)})"
    )


def good_step(path: Path) -> int:
    """The step of a checkpoint named as workdir/checkpoints/STEP, or a workdir's newest good one.

    Says in a line which newer ones are bad. Raises UserError if what was named cannot be used.
    """
    workdir, step = locate(path)
    if step is None:
        step, faults = newest_good(workdir)
        for fault in faults:
            print(f"{fault}; step {step} is taken instead", flush=True)
        return step
    if step not in steps(workdir):
        there = ", ".join(map(str, steps(workdir))) or "none"
        raise UserError(f"no checkpoint {path}; the steps of {workdir} are: {there}")
    fault = checksums.fault(step_folder(workdir, step))
    if fault:
        raise UserError(f"checkpoint {path} is bad: {fault}; name another step, or the workdir")
    return step


def check_restorable(path: Path) -> None:
    """Raises UserError unless `path` is a workdir with a good checkpoint, or one of its steps."""
    good_step(path)
    if not (workdir_of(path) / CONFIG).is_file():
        raise UserError(f"{workdir_of(path)} has no {CONFIG}; name a workdir that main has written")


def set_bad_aside(workdir: Path, good: int) -> None:
    """Renames the steps that are newer than the good one: training is going to write them again."""
    for step in steps(workdir):
        if step > good:
            aside = step_folder(workdir, step).with_suffix(".bad")
            shutil.rmtree(aside, ignore_errors=True)  # as bad, and older
            step_folder(workdir, step).rename(aside)


def is_saved(workdir: Path, step: int, validated: bool) -> bool:
    """Whether a step is there; if it is validated by now, whether what is there was too."""
    there = step in steps(workdir)
    return there and not (validated and _validation_error(workdir, step) == math.inf)


def bring_back(workdir: Path) -> None:
    """Ends a replacement that was killed between its two renames: the older one is as it was."""
    for old in workdir.glob(f"{FOLDER}/*.old"):
        if not old.with_suffix("").exists() and not checksums.fault(old):
            old.rename(old.with_suffix(""))


def unfinished(workdir: Path) -> list[str]:
    """What saves that were killed have left behind."""
    return sorted(x.name for x in _entries(workdir) if ".saving" in x.name)


def discard(workdir: Path, step: int) -> None:
    """Removes what a failed save has written, and what its threads may still be writing."""
    for _ in range(20):
        drafts = list(workdir.glob(f"{FOLDER}/{step}.saving*"))
        if not drafts:
            return
        for draft in drafts:
            shutil.rmtree(draft, ignore_errors=True)
        time.sleep(0.1)


def commit(workdir: Path, step: int, error: float | None, keep: int) -> None:
    """Makes a draft a checkpoint, then removes what is not needed any more.

    error: of the validation at this step. keep: newest steps that stay; the best stays besides.
    """
    draft = draft_folder(workdir, step)
    write_text(draft / VALIDATION, json.dumps({"step": step, ERROR: error}) + "\n")
    checksums.seal(draft)
    _retire(workdir, step)
    draft.rename(step_folder(workdir, step))
    path_to_disk(workdir / FOLDER)
    _tidy(workdir, keep)


def _retire(workdir: Path, step: int) -> None:
    """Renames a step that is to be removed: half removed, it is not taken for a checkpoint."""
    old = step_folder(workdir, step).with_suffix(".old")
    if step in steps(workdir):
        shutil.rmtree(old, ignore_errors=True)
        step_folder(workdir, step).rename(old)


def _tidy(workdir: Path, keep: int) -> None:
    there = steps(workdir)
    errors = {step: _validation_error(workdir, step) for step in there}
    best = min(errors, key=errors.get)
    for step in there[:-keep]:
        if step == best and errors[best] < math.inf:
            continue
        _retire(workdir, step)
    for entry in list(_entries(workdir)):
        number, _, ending = entry.name.partition(".")
        ours = ending in ("bad", "old") or ending.startswith("saving")
        if ours and number.isdigit() and int(number) <= there[-1]:
            shutil.rmtree(entry, ignore_errors=True)


def _validation_error(workdir: Path, step: int) -> float:
    try:
        error = json.loads((step_folder(workdir, step) / VALIDATION).read_text())[ERROR]
    except (OSError, ValueError, TypeError, KeyError):
        return math.inf  # a bad step is not the best
    return math.inf if error is None else error


def read_config(path: Path) -> ConfigDict:
    """The resolved config of the run that a checkpoint belongs to, tuples as tuples.

    Raises UserError if it cannot be read.
    """
    file = workdir_of(path) / CONFIG
    try:
        values = {**json.loads(file.read_text())}
        if not {"data", "model"} <= values.keys():
            raise ValueError("it has no data and no model")
        return ConfigDict(_tuples(values))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{file} cannot be read ({error}); bring it back, or train in another --workdir"
        ) from error


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(x) for key, x in value.items()}
    return tuple(_tuples(x) for x in value) if isinstance(value, list) else value


def write_config(workdir: Path, config: ConfigDict) -> None:
    """config.json: every setting of the run, resolved."""
    write_text(workdir / CONFIG, json.dumps(config.to_dict(), indent=2) + "\n")
