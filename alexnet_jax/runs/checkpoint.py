"""Checkpoints of a run's state, saved and restored. No other file imports orbax.

`workdir` names the folders and finds which checkpoints are intact.
"""

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

from alexnet_jax.disk import full_disk
from alexnet_jax.errors import UserError
from alexnet_jax.parallel import is_lead_process
from alexnet_jax.runs import workdir
from alexnet_jax.runs.record import RunRecord, record_in, write_record


@dataclass(frozen=True)
class Restored:
    """A checkpoint that was read back.

    Attributes:
      step: number of batches trained on.
      params: the parameters, sharded as the abstract ones that were asked for.
      mean: the mean that is subtracted from the pixels, float32 [crop, crop, 3] or [3].
      record: the facts saved beside the state.
      training: the rest of the training state; None if only the parameters were asked for.
    """

    step: int
    params: Any
    mean: np.ndarray
    record: RunRecord
    training: Any = None

    @property
    def state(self) -> Any:
        """Returns the training state, a TrainState with its parameters."""
        return self.training.replace(params=self.params)


class Checkpoints:
    """The checkpoints of one workdir: saved in the background, the newest and the best kept."""

    def __init__(self, directory: Path, keep: int, on_full_disk: str = full_disk.STOP) -> None:
        """Opens a workdir's checkpoints.

        Args:
          directory: the workdir.
          keep: number of newest checkpoints that stay; the best stays as well.
          on_full_disk: "stop" or "continue" when a save finds no room.
        """
        self._workdir, self._keep, self._on_full_disk = directory, keep, on_full_disk
        self._writer = ocp.AsyncCheckpointer(_handler())
        self._thread = ThreadPoolExecutor(1, "checkpoint")  # one: saves are in order
        self._step = -1  # of the last save
        self._saving: Future[None] | None = None
        self._lost = ""  # a line on the last save if it found no room
        _silence_asyncio()

    def save(
        self, step: int, state: Any, mean: np.ndarray, record: RunRecord, error: float | None
    ) -> None:
        """Copies a training state and writes it in the background, unless it is saved already.

        Args:
          step: number of batches that the state was trained on.
          state: a TrainState.
          mean: subtracted from the pixels, float32 [crop, crop, 3] or [3].
          record: facts of the run.
          error: top-1 validation error at this step, from 0 to 1, which decides the best
            checkpoint; None without a validation.

        Raises:
          UserError: as `poll`.
        """
        self._settle()
        if workdir.is_saved(self._workdir, step, validated=error is not None):
            return
        self._step = step
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(state.params),
            # Apart from the parameters, so that evaluation need not know the optimizer's tree.
            training=ocp.args.StandardSave(state.replace(params=None)),
            # In a list, because orbax saves trees and refuses a bare array.
            mean=ocp.args.StandardSave([mean]),
        )
        try:
            (self._workdir / workdir.FOLDER).mkdir(parents=True, exist_ok=True)
            # A killed run may have left a draft of this step, and orbax refuses to overwrite it.
            _as_lead(workdir.discard, self._workdir, step)
            self._writer.save(workdir.draft_folder(self._workdir, step).absolute(), args=items)
        except Exception as failure:
            self._failed(failure)
        else:
            # orbax has copied the state. Its files, our checksums and the rename follow in the
            # thread, while training goes on.
            self._saving = self._thread.submit(self._finish, step, record, error)

    def poll(self) -> None:
        """Collects a save that is done. Raises UserError if it found the disk full."""
        if self._saving is not None and self._saving.done():
            self._settle()

    def restore(self, state: Any) -> Restored | None:
        """Reads the newest intact checkpoint; returns None if the workdir has none.

        A line is printed for each unfinished and each damaged one; damaged ones are renamed.

        Args:
          state: a TrainState of abstract arrays, with the shapes, dtypes and shardings to read.

        Raises:
          UserError: every checkpoint is damaged, or the newest intact one is of another net.
        """
        _as_lead(workdir.bring_back, self._workdir)  # before the steps are counted
        for name in workdir.unfinished(self._workdir):
            print(f"checkpoint {name} was not written to its end and is skipped", flush=True)
        if not workdir.steps(self._workdir):
            return None
        step = workdir.good_step(self._workdir)
        _as_lead(workdir.set_bad_aside, self._workdir, step)
        return _restore(self._workdir, step, state.params, state.replace(params=None))

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, _: type[BaseException] | None, failure: BaseException | None, __: TracebackType | None
    ) -> None:
        # Waits for the save under way. Its failure must not hide the error that ends the run.
        try:
            self._settle()
        except Exception as other:
            if failure is None:
                raise
            print(f"step {self._step} was not saved: {other}", flush=True)
        finally:
            self._thread.shutdown()
            self._writer.close()
        if failure is None and self._lost:
            raise UserError(full_disk.advice(self._lost))

    def _finish(self, step: int, record: RunRecord, error: float | None) -> None:
        self._writer.wait_until_finished()
        _as_lead(write_record, workdir.draft_folder(self._workdir, step), record)
        _as_lead(workdir.commit, self._workdir, step, error, self._keep)

    def _settle(self) -> None:
        """Waits for the save under way, if any."""
        saving, self._saving = self._saving, None
        if saving is None:
            return
        try:
            saving.result()
            self._lost = ""
        except Exception as failure:
            self._failed(failure)

    def _failed(self, failure: Exception) -> None:
        with contextlib.suppress(Exception):
            self._writer.close()  # raises the same error again
        self._writer = ocp.AsyncCheckpointer(_handler())
        _as_lead(workdir.discard, self._workdir, self._step)
        saved = ", ".join(map(str, workdir.steps(self._workdir))) or "none"
        self._lost = f"step {self._step} was not saved; saved steps: {saved}"
        full_disk.report(self._lost, failure, self._on_full_disk)


def _silence_asyncio() -> None:
    """Silences the tasks of a failed save, which complain on stderr long after its error."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = _ignore_closed_loops


def _ignore_closed_loops(unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _as_lead(function: Any, *arguments: Any) -> None:
    """Calls a function that changes files, in the lead process only."""
    if is_lead_process():
        function(*arguments)


def _handler() -> ocp.CompositeCheckpointHandler:
    trees = {name: ocp.StandardCheckpointHandler() for name in ("params", "training", "mean")}
    return ocp.CompositeCheckpointHandler(**trees)


def _restore(directory: Path, step: int, params: Any, training: Any = None) -> Restored:
    folder = workdir.step_folder(directory, step).absolute()  # orbax takes no relative path
    wanted = {
        "params": ocp.args.StandardRestore(params),
        "mean": ocp.args.StandardRestore(),  # of whatever shape was saved
    }
    # Evaluation does not ask for the optimizer's state, so it is not read from the disk.
    if training is not None:
        wanted["training"] = ocp.args.StandardRestore(training)
    record = record_in(folder)
    with ocp.Checkpointer(_handler()) as reader:
        # orbax would raise an error of its own, with a traceback.
        _check_same_tree(reader.metadata(folder).item_metadata["params"], params, folder)
        found = reader.restore(folder, args=ocp.args.Composite(**wanted))
    mean = np.asarray(found["mean"][0])
    return Restored(step, found["params"], mean, record, found.get("training"))


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x.shape for path, x in leaves}


def _check_same_tree(saved: Any, wanted: Any, directory: Any) -> None:
    """Raises UserError that says in which parameters the saved net and the wanted one differ."""
    saved, wanted = _shapes(saved), _shapes(wanted)
    differ = [
        f"{name} is {saved.get(name, 'missing')}, not {wanted.get(name, 'missing')}"
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
    """Reads what a forward pass needs: the parameters and the mean of the pixels.

    Args:
      path: a workdir, for its newest intact step, or workdir/checkpoints/STEP.
      params: abstract parameters of the net (shapes, dtypes and shardings).

    Raises:
      UserError: it is damaged, or of another net.
    """
    directory = workdir.workdir_of(path)
    while True:
        step = workdir.good_step(path)
        try:
            return _restore(directory, step, params)
        except Exception:
            if step in workdir.steps(directory):
                raise  # otherwise a running training has removed it: read its newest step
