"""Saving and restoring a run. The only file that knows orbax; `workdir` says what is good."""

import contextlib
import logging
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from alexnet_jax import full_disk
from alexnet_jax.errors import UserError
from alexnet_jax.parallel import is_first_process
from alexnet_jax.runs import workdir


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

    def __init__(self, directory: Path, keep: int, on_full_disk: str = full_disk.STOP) -> None:
        """on_full_disk: stop or continue, when a save finds no room."""
        self._workdir, self._keep, self._on_full_disk = directory, keep, on_full_disk
        self._writer = ocp.AsyncCheckpointer(_handler())
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._step = -1  # last asked for
        self._saving: Future[None] | None = None
        self._lost = ""
        (directory / workdir.FOLDER).mkdir(parents=True, exist_ok=True)
        _quieten()

    def save(
        self,
        step: int,
        params: Any,
        training: Any,
        mean: np.ndarray,
        meta: dict[str, Any],
        error: float | None,
    ) -> None:
        """Copies the state and writes it in the background, unless this step is saved already.

        `error` (of the validation) decides which is the best. Raises what `poll` does.
        """
        self._settle()
        if workdir.is_saved(self._workdir, step, validated=error is not None):
            return
        self._step = step
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(params),
            training=ocp.args.StandardSave(training),
            mean=ocp.args.StandardSave([mean]),
            meta=ocp.args.JsonSave(meta),
        )
        try:
            _first_process(workdir.discard, self._workdir, step)
            self._writer.save(workdir.draft_folder(self._workdir, step).absolute(), args=items)
        except Exception as fault:
            self._failed(fault)
        else:
            self._saving = self._thread.submit(self._finish, step, error)

    def poll(self) -> None:
        """Looks at the save in the background. Raises UserError if it found the disk full."""
        if self._saving is not None and self._saving.done():
            self._settle()

    def restore(self, params: Any, training: Any) -> Restored | None:
        """The newest good checkpoint in the form of these abstract trees; None if nothing is saved.

        Bad and unfinished ones are told, and set aside. Raises UserError if none is good.
        """
        _first_process(workdir.bring_back, self._workdir)
        for name in workdir.unfinished(self._workdir):
            print(f"checkpoint {name} was not written to its end and is skipped", flush=True)
        if not workdir.steps(self._workdir):
            return None
        step = workdir.good_step(self._workdir)
        _first_process(workdir.set_bad_aside, self._workdir, step)
        return _restore(self._workdir, step, params, training)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None
    ) -> None:
        # Waits for what is being saved; must not hide why the run ends.
        try:
            self._settle()
        except Exception as failed:
            if fault is None:
                raise
            print(f"step {self._step} was not saved: {failed}", flush=True)
        finally:
            self._thread.shutdown()
            self._writer.close()
        if fault is None and self._lost:
            raise UserError(full_disk.advice(self._lost))

    def _finish(self, step: int, error: float | None) -> None:
        self._writer.wait_until_finished()
        _first_process(workdir.commit, self._workdir, step, error, self._keep)

    def _settle(self) -> None:
        """Waits for the save under way, if there is one."""
        saving, self._saving = self._saving, None
        if saving is None:
            return
        try:
            saving.result()
            self._lost = ""
        except Exception as fault:
            self._failed(fault)

    def _failed(self, fault: Exception) -> None:
        with contextlib.suppress(Exception):
            self._writer.close()  # it raises once more what is told here
        self._writer = ocp.AsyncCheckpointer(_handler())
        _first_process(workdir.discard, self._workdir, self._step)
        there = ", ".join(map(str, workdir.steps(self._workdir))) or "none"
        self._lost = f"step {self._step} was not saved; saved steps: {there}"
        full_disk.tell(self._lost, fault, self._on_full_disk)


def _quieten() -> None:
    """A save that fails leaves tasks behind that complain on stderr long after it was told."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = _but_of_closed_loops


def _but_of_closed_loops(fault: Any) -> None:
    if str(fault.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(fault)


def _first_process(function: Any, *arguments: Any) -> None:
    """Calls a function that changes files; of several processes only the first does."""
    if is_first_process():
        function(*arguments)


def _handler() -> ocp.CompositeCheckpointHandler:
    trees = {name: ocp.StandardCheckpointHandler() for name in ("params", "training", "mean")}
    return ocp.CompositeCheckpointHandler(**trees, meta=ocp.JsonCheckpointHandler())


def _restore(directory: Path, step: int, params: Any, training: Any) -> Restored:
    folder = workdir.step_folder(directory, step).absolute()  # orbax takes no relative path
    wanted = {
        "params": ocp.args.StandardRestore(params),
        "mean": ocp.args.StandardRestore(),
        "meta": ocp.args.JsonRestore(),
    }
    if training is not None:
        wanted["training"] = ocp.args.StandardRestore(training)
    with ocp.Checkpointer(_handler()) as reader:
        _check_same_tree(reader.metadata(folder).item_metadata["params"], params, folder)
        found = reader.restore(folder, args=ocp.args.Composite(**wanted))
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


def restore_params(path: Path, params: Any) -> Restored:
    """Only what a forward pass needs, from a workdir (newest good step) or one of its steps.

    Args:
      path: what the user named: a workdir, or workdir/checkpoints/STEP.
      params: abstract parameters of the net (shapes, dtypes and shardings).

    Raises:
      UserError: it is bad, or of another net.
    """
    directory = workdir.workdir_of(path)
    while True:
        step = workdir.good_step(path)
        try:
            return _restore(directory, step, params, None)
        except Exception:
            if step in workdir.steps(directory):
                raise  # else a training that goes on has removed it: take the newest again
