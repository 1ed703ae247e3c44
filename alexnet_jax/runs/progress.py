"""Progress of a training: metrics lines on the disk, a bar or plain lines on the terminal."""

import math
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from alexnet_jax import full_disk
from alexnet_jax.errors import UserError
from alexnet_jax.runs.metrics import Metrics

Scalars = dict[str, jax.Array]
SECONDS_BETWEEN_LINES = 5.0  # of progress, if stderr is no terminal


class Reporter:
    """The reporter of a training's steps and validations.

    The scalars of `lag` steps are held back until later steps have been dispatched, so that a GPU
    never waits for the host to fetch them.
    """

    def __init__(
        self,
        metrics: Metrics,
        train: ConfigDict,
        *,
        first_step: int,
        seconds: float,
        steps_per_epoch: int,
        total_steps: int,
        lag: int,
    ) -> None:
        """Continues a training.

        Args:
          metrics: the files to write.
          train: config.train.
          first_step: step that the training starts from.
          seconds: of training before that.
          steps_per_epoch, total_steps: numbers of batches.
          lag: 1 for a GPU; 0 for a CPU, whose step is done when it returns.
        """
        self._metrics, self._train, self._lag = metrics, train, lag
        self._steps_per_epoch, self._total = steps_per_epoch, total_steps
        self._bar = tqdm(
            total=total_steps, initial=first_step, unit="step", disable=not sys.stderr.isatty()
        )
        self._pending: tuple[int, Scalars] | None = None
        self._reached_at = -1
        self._first, self._before = first_step, seconds
        self._started, self._shown = time.monotonic(), 0.0
        self._rate = math.nan
        self._restart_speed()

    def push(self, step: int, scalars: Scalars) -> None:
        """Takes the scalars of a step that was just dispatched; writes those that are due."""
        if step == self._first + 1:  # dispatching the first step includes compiling it
            self.say(f"first step: {time.monotonic() - self._started:.1f} s with compilation")
        self.flush()
        self._pending = (step, scalars)
        if not self._lag:
            self.flush()

    def flush(self) -> None:
        """Writes the step that is held back, if any. Raises UserError if it is not finite."""
        if self._pending is None:
            return
        (step, scalars), self._pending = self._pending, None
        values = {name: float(x) for name, x in jax.device_get(scalars).items()}
        check_finite(values, step, self._steps_per_epoch)
        self._images += values.pop("examples")
        if step % self._steps_per_epoch:
            del values["epoch_loss"], values["epoch_top1_error"]
        elif values["epoch_top1_error"] <= self._train.stop_at_train_error:
            self._reached_at = step
        if self._is_logged(step):
            values["images_per_second"] = self._images / (time.monotonic() - self._since)
            self._restart_speed()
            self._write(step, {f"train/{name}": x for name, x in values.items()})
            self._show(step, values)
        if step == self._first + 1:
            self._restart_speed()  # compilation does not count in the speed of later steps

    def reached_target(self, step: int) -> bool:
        """True if the epoch that ends at `step` reached train.stop_at_train_error."""
        if not self._train.stop_at_train_error or step % self._steps_per_epoch:
            return False
        self.flush()
        return self._reached_at == step

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        """Writes and shows a validation."""
        self._write(step, values)
        self.say(
            f"validation at step {step}: top-1 error {100 * values['val/top1_error']:.2f} %, "
            f"top-5 {100 * values['val/top5_error']:.2f} %, loss {values['val/loss']:.3f}"
        )
        self._restart_speed()

    def sync(self) -> float:
        """Makes all that was written safe on the disk; returns the seconds of training so far."""
        self._metrics.sync()
        return self._seconds()

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        self._bar.clear()
        print(text, flush=True)

    @property
    def behind(self) -> bool:
        """True while metrics.jsonl lacks lines because the disk is full."""
        return self._metrics.behind

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._bar.close()
        if kind is None:
            self._metrics.sync()
        self._metrics.close()
        if kind is None and self.behind:
            raise UserError(full_disk.advice("the last lines of metrics.jsonl are not written"))

    def _is_logged(self, step: int) -> bool:
        last = step == self._total or step % self._steps_per_epoch == 0
        return last or step % self._train.log_every_steps == 0

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def _restart_speed(self) -> None:
        self._images, self._since = 0.0, time.monotonic()

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        self._metrics.write(step, step / self._steps_per_epoch, self._seconds(), values)

    def _show(self, step: int, values: Mapping[str, float]) -> None:
        if values["learning_rate"] != self._rate:
            self._rate = values["learning_rate"]
            self.say(f"learning rate {self._rate:g} at step {step}")
        text = (
            f"epoch {step / self._steps_per_epoch:.2f}  loss {values['loss']:.3f}  "
            f"error {100 * values['top1_error']:.1f} %  {values['images_per_second']:.0f} img/s"
        )
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(step - self._bar.n)
        if self._bar.disable and time.monotonic() - self._shown > SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            spent = (time.monotonic() - self._started) / (step - self._first)
            left = tqdm.format_interval(spent * (self._total - step))
            print(f"step {step}/{self._total}  {text}  {left} left", flush=True)


def check_finite(values: Mapping[str, float], step: int, steps_per_epoch: int) -> None:
    """Raises UserError if the loss or the gradient of a step is not a finite number."""
    for name in ("loss", "grad_norm"):
        if not math.isfinite(values[name]):
            epoch, batch = divmod(step - 1, steps_per_epoch)
            raise UserError(
                f"{name} is {values[name]} at step {step} (epoch {epoch}, batch {batch}); earlier "
                f"checkpoints are kept; try an optim.learning_rate below "
                f"{values['learning_rate']:g} in another --workdir (init_from takes a checkpoint)"
            )
