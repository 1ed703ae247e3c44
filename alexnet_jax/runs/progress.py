"""Progress of a training or an evaluation: a bar on a terminal, else a line every few seconds.

The Reporter also writes what it shows to the metrics files.
"""

import math
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from alexnet_jax.disk import full_disk
from alexnet_jax.errors import UserError
from alexnet_jax.optim.schedules import SMOOTH
from alexnet_jax.runs import chance
from alexnet_jax.runs.finite import check_step
from alexnet_jax.runs.metrics import Metrics

Scalars = dict[str, jax.Array]
SECONDS_BETWEEN_LINES = 5.0
BAR = "{percentage:3.0f}%|{bar}| {desc}  ETA {remaining}"  # fits into 80 columns


def with_progress(
    batches: Iterator[Any], images: int, batch_size: int, title: str
) -> Iterator[Any]:
    """Yields the batches, and shows how many of the images are done.

    Args:
      batches: any objects; the last one may stand for fewer images.
      images: number in all batches.
      batch_size: images in a batch.
      title: of the bar or line.
    """
    done, shown = 0, time.monotonic()
    with tqdm(
        total=images,
        desc=title,
        unit=" images",
        leave=False,
        delay=1,  # no bar for what is over in a second
        disable=not sys.stderr.isatty(),
    ) as bar:
        for batch in batches:
            yield batch
            # The caller has finished with the batch only when it asks for the next one.
            bar.update(min(batch_size, images - done))
            done = min(images, done + batch_size)
            if bar.disable and time.monotonic() - shown > SECONDS_BETWEEN_LINES:
                shown = time.monotonic()
                print(f"{title}: {done}/{images} images", flush=True)


class Reporter:
    """The reporter of a training's steps and validations.

    The scalars of `lag` steps are held back until later steps have been dispatched, so that a GPU
    never waits for the host to fetch them.
    """

    def __init__(
        self,
        metrics: Metrics,
        config: ConfigDict,
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
          config: of the run.
          first_step: step that the training starts from, 0 for a new one.
          seconds: of training before that.
          steps_per_epoch, total_steps: numbers of batches.
          lag: 1 for a GPU; 0 for a CPU, whose step is done when it returns.
        """
        self._metrics, self._train, self._lag = metrics, config.train, lag
        self._steps_per_epoch, self._total = steps_per_epoch, total_steps
        self._classes, self._steps_at_chance = config.model.num_classes, 0
        warmup = round(config.optim.warmup_epochs * steps_per_epoch)
        # Before this step the rate changes at each one, which is not worth a line.
        self._rate_is_smooth_to = math.inf if config.optim.schedule in SMOOTH else warmup
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
            bar_format=BAR,
            disable=not sys.stderr.isatty(),
        )
        self._pending: tuple[int, Scalars] | None = None
        self._first, self._before = first_step, seconds
        self._started, self._shown = time.monotonic(), 0.0  # 0: the first line comes at once
        self._compiled = self._started  # when the first step was done
        self._rate = math.nan  # not announced yet
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
        """Writes the step that is held back, if any.

        Raises:
          UserError: its loss or gradient norm is NaN or infinite.
        """
        if self._pending is None:
            return
        (step, scalars), self._pending = self._pending, None
        # One transfer for all scalars: float(x) on each would wait for the device every time.
        values = {name: float(x) for name, x in jax.device_get(scalars).items()}
        check_step(values, step, self._steps_per_epoch)
        self._images += values.pop("examples")
        if step % self._steps_per_epoch:
            # Within an epoch these two are averages over a part of its images.
            del values["epoch_loss"], values["epoch_top1_error"]
        self._announce(step, values)
        if self._is_logged(step):
            values["images_per_second"] = self._images / (time.monotonic() - self._since)
            self._restart_speed()
            self._write(step, {f"train/{name}": x for name, x in values.items()})
            self._show(step, values)
        if step == self._first + 1:
            self._restart_speed()  # compilation does not count in the speed of later steps
            self._compiled = time.monotonic()

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of a validation, such as val/loss, and prints them in a line."""
        self._write(step, values)
        self.say(
            f"validation at step {step}: top-1 error {100 * values['val/top1_error']:.2f} %, "
            f"top-5 {100 * values['val/top5_error']:.2f} %, loss {values['val/loss']:.3f}"
        )
        self._restart_speed()  # the time of a validation is none of the training's

    def sync(self) -> float:
        """Flushes all that was written to the disk; returns the seconds of training so far."""
        self._metrics.sync()
        return self._seconds()

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        self._bar.clear()  # otherwise the text would overwrite a part of the bar
        print(text, flush=True)

    @property
    def behind(self) -> bool:
        """True while metrics.jsonl lacks lines because the disk is full."""
        return self._metrics.behind

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._bar.close()
        # After an error, a second one from these files would hide it.
        if kind is None:
            self._metrics.sync()
        self._metrics.close()
        if kind is None and self.behind:
            raise UserError(full_disk.advice("the last lines of metrics.jsonl are not written"))

    def _is_logged(self, step: int) -> bool:
        # The end of an epoch has the epoch's averages, and the last step the final ones.
        last = step == self._total or step % self._steps_per_epoch == 0
        return last or step % self._train.log_every_steps == 0

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def _restart_speed(self) -> None:
        self._images, self._since = 0.0, time.monotonic()

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        self._metrics.write(step, step / self._steps_per_epoch, self._seconds(), values)

    def _announce(self, step: int, values: Mapping[str, float]) -> None:
        """Prints the first learning rate and its drops, and once that the loss is at chance."""
        rate = values["learning_rate"]
        changed = rate != self._rate and step >= self._rate_is_smooth_to
        if math.isnan(self._rate) or changed:
            self.say(f"learning rate {rate:g} from step {step} on")
        self._rate = rate
        before, classes = self._steps_at_chance, self._classes
        self._steps_at_chance = chance.steps_at_chance(before, values["loss"], classes)
        if self._steps_at_chance == chance.PATIENCE:
            self.say(chance.warning(classes))

    def _show(self, step: int, values: Mapping[str, float]) -> None:
        text = (
            f"epoch {step / self._steps_per_epoch:.1f}  loss {values['loss']:.3f}  "
            f"error {100 * values['top1_error']:.1f}%  {values['images_per_second']:.0f} img/s"
        )
        self._bar.set_description_str(text, refresh=False)
        # Only at logged steps: drawing takes time.
        self._bar.update(step - self._bar.n)
        if self._bar.disable and time.monotonic() - self._shown > SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            print(f"step {step}/{self._total}  {text}{self._time_left(step)}", flush=True)

    def _time_left(self, step: int) -> str:
        steps = step - self._first - 1  # the first one was compiled
        if steps < 1:
            return ""
        seconds = (time.monotonic() - self._compiled) / steps * (self._total - step)
        return f"  ETA {tqdm.format_interval(seconds)}"
