"""What a run tells: metrics.jsonl, TensorBoard, and progress on the terminal."""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
from ml_collections import ConfigDict
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar
from tqdm import tqdm

from alexnet_jax import full_disk
from alexnet_jax.durable import write_text
from alexnet_jax.errors import UserError

Scalars = dict[str, jax.Array]
SECONDS_BETWEEN_LINES = 5.0  # of progress, where there is no terminal
SECONDS_BETWEEN_FLUSHES = 30.0  # of TensorBoard's file

FILE = "metrics.jsonl"


def cut_back(path: Path, step: int, evaluated: int) -> None:
    """Drops the lines that a restored run is going to write again, and any half-written one.

    Keeps training lines up to `step`, and evaluation lines up to `step` if the state was
    evaluated there (`evaluated` == step), else before it. The file is replaced atomically.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            continue
        limit = step if "train/loss" in values or evaluated == step else step - 1
        if values["step"] <= limit:
            kept.append(line)
    write_text(path, "".join(line + "\n" for line in kept))


class Board:
    """TensorBoard's copy of the numbers, in an event file that is begun when first written to.

    tensorboardX's own SummaryWriter writes in a thread, which a full disk ends without a word.
    """

    def __init__(self, folder: Path, step: int) -> None:
        """What an earlier run wrote after `step` is hidden."""
        folder.mkdir(exist_ok=True)
        self._folder, self._hidden_from = folder, step + 1
        self._file: EventsWriter | None = None
        self._files, self._flushed = 0, time.monotonic()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the values. Raises OSError where they do not fit; the next ones get a new file."""
        try:
            if self._file is None:
                self._file = self._begin()
            for name, value in values.items():
                event = Event(wall_time=time.time(), step=step, summary=scalar(name, value))
                self._file.write_event(event)
            if time.monotonic() - self._flushed > SECONDS_BETWEEN_FLUSHES:
                self.flush()
        except OSError:
            self._file = None
            raise

    def _begin(self) -> EventsWriter:
        self._files += 1  # a name ends with the second it was made in
        name = f".{os.getpid()}.{self._files}"
        file = EventsWriter(str(self._folder / "events"), name)
        if self._files == 1:
            start = SessionLog(status=SessionLog.START)
            hide = Event(wall_time=time.time(), step=self._hidden_from, session_log=start)
            file.write_event(hide)
        return file

    def flush(self) -> None:
        """Brings the file onto the disk; errors as in write."""
        self._flushed = time.monotonic()
        try:
            if self._file is not None:
                self._file.flush()
        except OSError:
            self._file = None
            raise


class Metrics:
    """Writes every line to metrics.jsonl and, number by number, to TensorBoard.

    Lines that a full disk does not take are held until it does.
    """

    def __init__(
        self, workdir: Path, step: int, evaluated: int, on_full_disk: str = full_disk.STOP
    ) -> None:
        """Continues the files of a run whose state was restored at `step`."""
        cut_back(workdir / FILE, step, evaluated)
        self._path, self._on_full_disk = workdir / FILE, on_full_disk
        self._file = self._path.open("ab", buffering=0)
        self._held, self._told, self.behind = b"", False, False
        self._board = Board(workdir / "tensorboard", step)

    def write(self, step: int, epoch: float, seconds: float, values: Mapping[str, float]) -> None:
        """One line: where the run is, and the values by name."""
        line = {"step": step, "epoch": round(epoch, 6), "time": round(seconds, 3), **values}
        self._held += (json.dumps(line) + "\n").encode()
        with self._full_disk_told():
            self._to_file()
            self._board.write(step, values)

    def _to_file(self) -> None:
        while self._held:
            self._held = self._held[self._file.write(self._held) :]

    @contextlib.contextmanager
    def _full_disk_told(self) -> Iterator[None]:
        """Says once that the disk is full, until it no longer is; UserError if that ends the run.

        While lines are held, `behind` is true.
        """
        try:
            yield
        except OSError as fault:
            if not (self._told and full_disk.is_full(fault)):
                full_disk.tell(f"{self._path} cannot be written", fault, self._on_full_disk)
            self._told = self.behind = True
        else:
            self._told = self.behind = False

    def sync(self) -> None:
        """Everything written so far survives a power cut: called before a checkpoint is saved."""
        with self._full_disk_told():
            self._to_file()
            os.fsync(self._file.fileno())
            self._board.flush()

    def close(self) -> None:
        """Ends both files."""
        with contextlib.suppress(OSError):  # the board is a copy
            self._board.flush()
        self._file.close()


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
        on_full_disk: str = full_disk.STOP,
    ) -> None:
        """Goes on from `step`, `seconds` of training done; `settings` is config.train."""
        self._metrics = Metrics(workdir, step, evaluated, on_full_disk)
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
        if step == self._first + 1:
            self._restart_rate()  # the rates of later steps do not count compilation

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

    @property
    def behind(self) -> bool:
        """True while metrics.jsonl lacks lines because the disk is full."""
        return self._metrics.behind

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._bar.close()
        if kind is None:
            self._metrics.sync()
        self._metrics.close()
        if kind is None and self.behind:
            raise UserError(full_disk.advice("the last lines of metrics.jsonl are not written"))

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
                f"{values['learning_rate']:g} in another --workdir (init_from takes a checkpoint)"
            )
