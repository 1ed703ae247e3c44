"""What a run tells: metrics.jsonl, TensorBoard, and progress on the terminal."""

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import jax
from ml_collections import ConfigDict
from tensorboardX import SummaryWriter
from tqdm import tqdm

from alexnet_jax.errors import UserError

Scalars = dict[str, jax.Array]
SECONDS_BETWEEN_LINES = 5.0  # of progress, where there is no terminal

FILE = "metrics.jsonl"


def cut_back(path: Path, step: int, evaluated: int) -> None:
    """Drops the lines that a restored run is going to write again, and any half-written one.

    Keeps training lines up to `step`, and evaluation lines up to `step` if the state was
    evaluated there (`evaluated` == step), else before it. The file is replaced atomically.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            continue
        limit = step if "train/loss" in values or evaluated == step else step - 1
        if values["step"] <= limit:
            kept.append(line)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        file.writelines(line + "\n" for line in kept)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class Metrics:
    """Writes every line to metrics.jsonl and, number by number, to TensorBoard."""

    def __init__(self, workdir: Path, step: int, evaluated: int) -> None:
        """Continues the files of a run whose state was restored at `step`."""
        cut_back(workdir / FILE, step, evaluated)
        self._file = (workdir / FILE).open("a")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, epoch: float, seconds: float, values: Mapping[str, float]) -> None:
        """One line: where the run is, and the values by name."""
        line = {"step": step, "epoch": round(epoch, 6), "time": round(seconds, 3), **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def sync(self) -> None:
        """Everything written so far survives a power cut: called before a checkpoint is saved."""
        os.fsync(self._file.fileno())
        self._board.flush()

    def close(self) -> None:
        """Ends both files."""
        self._file.close()
        self._board.close()


class Reporter:
    """Holds each step's scalars until the next is under way, then writes and shows them.

    A live bar on a terminal, plain lines otherwise.
    """

    def __init__(
        self,
        workdir: Path,
        step: int,
        evaluated: int,
        seconds: float,
        epoch_steps: int,
        total: int,
        settings: ConfigDict,
    ) -> None:
        """Goes on from `step`, `seconds` of training done; `settings` is config.train."""
        self._metrics = Metrics(workdir, step, evaluated)
        self._settings, self._epoch_steps, self._total = settings, epoch_steps, total
        self._bar = tqdm(total=total, initial=step, unit="step", disable=not sys.stderr.isatty())
        self._pending: tuple[int, Scalars] | None = None
        self._learnt_at = -1
        self._first, self._started, self._shown = step, time.monotonic(), 0.0
        self._before = seconds
        self._restart_rate()

    def push(self, step: int, scalars: Scalars) -> None:
        """Takes a step that was just dispatched; writes the one before."""
        if step == self._first + 1:  # dispatching it took as long as compiling it
            self._say(f"first step: {time.monotonic() - self._started:.1f} s with compilation")
            self._restart_rate()
        self.flush()
        self._pending = (step, scalars)

    def flush(self) -> None:
        """Writes the step that is held, if any. Raises UserError if it is not finite."""
        if self._pending is None:
            return
        (step, scalars), self._pending = self._pending, None
        values = {name: float(x) for name, x in jax.device_get(scalars).items()}
        _check_finite(values, step, self._epoch_steps)
        self._images += values.pop("examples")
        epoch_error = values["epoch_top1_error"]
        if step % self._epoch_steps:
            del values["epoch_loss"], values["epoch_top1_error"]
        elif epoch_error <= self._settings.stop_at_train_error:
            self._learnt_at = step
        if (
            "epoch_loss" in values
            or step == self._total
            or not step % self._settings.log_every_steps
        ):
            values["images_per_second"] = self._images / (time.monotonic() - self._since)
            self._restart_rate()
            self._write(step, {f"train/{name}": x for name, x in values.items()})
            self._show(step, values)

    def learnt(self, step: int) -> bool:
        """True if the epoch that ended at `step` reached train.stop_at_train_error."""
        return self._learnt_at == step and self._settings.stop_at_train_error > 0

    def evaluation(self, step: int, values: Mapping[str, float]) -> None:
        """Writes and shows a validation."""
        self._write(step, values)
        self._say(
            f"validation at step {step}: top-1 error {100 * values['val/top1_error']:.2f} %, "
            f"top-5 {100 * values['val/top5_error']:.2f} %, loss {values['val/loss']:.4f} "
            f"({values['val/examples']} images, {values['val/views']} views)"
        )
        self._restart_rate()

    def sync(self) -> float:
        """Makes all that was written safe on disk; returns the seconds of training so far."""
        self._metrics.sync()
        return self._seconds()

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._metrics.close()

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def _restart_rate(self) -> None:
        self._images, self._since = 0.0, time.monotonic()

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        self._metrics.write(step, step / self._epoch_steps, self._seconds(), values)

    def _say(self, text: str) -> None:
        self._bar.clear()
        print(text, flush=True)

    def _show(self, step: int, values: Mapping[str, float]) -> None:
        text = (
            f"epoch {step / self._epoch_steps:.2f}  loss {values['loss']:.4f}  "
            f"error {100 * values['top1_error']:.1f} %  {values['images_per_second']:.0f} images/s"
        )
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(step - self._bar.n)
        if self._bar.disable and time.monotonic() - self._shown > SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            spent = (time.monotonic() - self._started) / (step - self._first)
            left = tqdm.format_interval(spent * (self._total - step))
            print(f"step {step}/{self._total}  {text}  ETA {left}", flush=True)


def _check_finite(values: Mapping[str, float], step: int, epoch_steps: int) -> None:
    """Stops a run whose loss or gradient is no longer a number, before that state is saved."""
    for name in ("loss", "grad_norm"):
        if not math.isfinite(values[name]):
            epoch, batch = divmod(step - 1, epoch_steps)
            raise UserError(
                f"{name} is {values[name]} at step {step} (epoch {epoch}, batch {batch}); earlier "
                f"checkpoints are kept; try an optim.learning_rate below "
                f"{values['learning_rate']:g}"
            )
