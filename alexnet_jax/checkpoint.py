"""Saving and restoring a run. The only file that knows orbax."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict
from orbax.checkpoint.checkpoint_managers import preservation_policy

from alexnet_jax.errors import UserError

FOLDER = "checkpoints"
CONFIG = "config.json"
METRIC = "val/top1_error"


@dataclass(frozen=True)
class Restored:
    """A checkpoint read back: `training` is everything but the parameters; None if not asked."""

    step: int
    params: Any
    mean: np.ndarray
    training: Any
    meta: dict[str, Any]


class Checkpoints:
    """The checkpoints of one workdir; saves in the background, keeps the newest and the best."""

    def __init__(self, workdir: Path, keep: int) -> None:
        newest = preservation_policy.LatestN(keep)
        best = preservation_policy.BestN(
            n=1,
            get_metric_fn=lambda metrics: -metrics[METRIC],
            keep_checkpoints_without_metrics=False,
        )
        self._manager = _manager(
            workdir,
            preservation_policy=preservation_policy.AnyPreservationPolicy([newest, best]),
        )

    def latest(self) -> int | None:
        """The newest step saved."""
        return self._manager.latest_step()

    def save(
        self,
        step: int,
        params: Any,
        training: Any,
        mean: np.ndarray,
        meta: dict[str, Any],
        error: float | None,
    ) -> None:
        """Saves asynchronously unless this step is there; `error` (validation) decides the best."""
        if step in self._manager.all_steps():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(params),
                training=ocp.args.StandardSave(training),
                mean=ocp.args.StandardSave([mean]),
                meta=ocp.args.JsonSave(meta),
            ),
            metrics=None if error is None else {METRIC: error},
        )

    def restore(self, params: Any, training: Any) -> Restored | None:
        """The newest checkpoint in the form of these abstract trees; None if there is none."""
        step = self.latest()
        if step is None:
            return None
        return _restore(self._manager, step, params, training)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        # Waits for what is being saved.
        self._manager.wait_until_finished()
        self._manager.close()


def _manager(workdir: Path, **options: Any) -> ocp.CheckpointManager:
    trees = {name: ocp.StandardCheckpointHandler() for name in ("params", "training", "mean")}
    return ocp.CheckpointManager(
        (workdir / FOLDER).absolute(),  # orbax takes no relative path
        options=ocp.CheckpointManagerOptions(**options),
        item_handlers={**trees, "meta": ocp.JsonCheckpointHandler()},
    )


def _restore(manager: ocp.CheckpointManager, step: int, params: Any, training: Any) -> Restored:
    directory = manager.directory / str(step)
    _check_same_tree(manager.item_metadata(step)["params"], params, directory)
    wanted = {
        "params": ocp.args.StandardRestore(params),
        "mean": ocp.args.StandardRestore(),
        "meta": ocp.args.JsonRestore(),
    }
    if training is not None:
        wanted["training"] = ocp.args.StandardRestore(training)
    found = manager.restore(step, args=ocp.args.Composite(**wanted))
    return Restored(
        step, found["params"], np.asarray(found["mean"][0]), found.get("training"), found["meta"]
    )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x.shape for path, x in leaves}


def _check_same_tree(saved: Any, wanted: Any, directory: Any) -> None:
    """Raises UserError that says in which parameters the saved net and the wanted one differ."""
    saved, wanted = _shapes(saved), _shapes(wanted)
    differ = [
        f"{name} is {saved.get(name, 'missing')} there, {wanted.get(name, 'missing')} here"
        for name in sorted(saved | wanted)
        if saved.get(name) != wanted.get(name)
    ]
    if differ:
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise UserError(
            f"the checkpoint {directory} is of another net: {'; '.join(differ[:3])}{more}; "
            f"use the config it was trained with"
        )


def _locate(path: Path) -> tuple[Path, int | None]:
    """A user's DIR as (workdir, step): a workdir means its newest step."""
    if path.parent.name == FOLDER and path.name.isdigit():
        return path.parent.parent, int(path.name)
    return path, None


def workdir_of(path: Path) -> Path:
    """The workdir that a checkpoint given as workdir or workdir/checkpoints/STEP belongs to."""
    return _locate(path)[0]


def _steps(workdir: Path) -> list[int]:
    folder = workdir / FOLDER
    return (
        sorted(int(x.name) for x in folder.iterdir() if x.name.isdigit()) if folder.is_dir() else []
    )


def step_of(path: Path) -> int:
    """The step of a checkpoint named as workdir (its newest) or workdir/checkpoints/STEP."""
    workdir, step = _locate(path)
    return _steps(workdir)[-1] if step is None else step


def check_restorable(path: Path) -> None:
    """Raises UserError unless `path` is a workdir with a checkpoint, or one of its steps."""
    workdir, step = _locate(path)
    steps = _steps(workdir)
    if not steps or not (workdir / CONFIG).is_file():
        raise UserError(f"no checkpoint in {path}; train with --workdir={path} first, or name one")
    if step is not None and step not in steps:
        raise UserError(
            f"no checkpoint {path}; {workdir} has the steps {', '.join(map(str, steps))}"
        )


def read_config(path: Path) -> ConfigDict:
    """The resolved config of the run that a checkpoint belongs to, tuples as tuples."""
    values = json.loads((workdir_of(path) / CONFIG).read_text())
    return ConfigDict(_tuples(values))


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(x) for key, x in value.items()}
    return tuple(_tuples(x) for x in value) if isinstance(value, list) else value


def write_config(workdir: Path, config: ConfigDict) -> None:
    """config.json: every setting of the run, resolved."""
    temporary = workdir / (CONFIG + ".tmp")
    with temporary.open("w") as file:
        file.write(json.dumps(config.to_dict(), indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(workdir / CONFIG)


def restore_params(path: Path, params: Any) -> Restored:
    """Only what a forward pass needs, from a workdir (newest step) or workdir/checkpoints/STEP.

    Args:
      path: what the user named.
      params: abstract parameters of the net (shapes and dtypes).

    Raises:
      UserError: it is of another net.
    """
    with _manager(workdir_of(path), read_only=True) as manager:
        return _restore(manager, step_of(path), params, None)
