"""A run's metrics: metrics.jsonl and TensorBoard."""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from alexnet_jax.disk import full_disk
from alexnet_jax.disk.durable import write_text
from alexnet_jax.errors import UserError

SECONDS_BETWEEN_FLUSHES = 30.0  # of TensorBoard's file

FILE = "metrics.jsonl"
Line = Mapping[str, float]  # such as {"step": 100, "epoch": 1.0, "time": 2.5, "train/loss": 2.3}


def cut_back(path: Path, step: int, validated_step: int) -> None:
    """Drops the lines that a restored run will write again, and any half-written one.

    Training lines stay up to `step`. Validation lines stay up to `step` if the state was validated
    at it (`validated_step` == step), otherwise up to the step before. The file is replaced
    atomically.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = parse_line(line)
        except ValueError:  # the half-written last line of a killed run, or an edit by hand
            continue
        # A run that was stopped at this step by a signal has not validated it yet, and will.
        limit = step if "train/loss" in values or validated_step == step else step - 1
        if values["step"] <= limit:
            kept.append(line)
    write_text(path, "".join(line + "\n" for line in kept))


def parse_line(text: str) -> Line:
    """Returns the numbers of a line; raises ValueError unless step, epoch and time are in it."""
    values = json.loads(text)
    if not isinstance(values, dict) or not values.keys() >= {"step", "epoch", "time"}:
        raise ValueError(f"{text[:40]!r} has no step, epoch and time")
    if not all(isinstance(x, int | float) for x in values.values()):
        raise ValueError(f"{text[:40]!r} has a value that is no number")
    return values


def read_lines(path: Path) -> list[Line]:
    """Reads the complete lines of a metrics.jsonl, each as a dict of numbers.

    A last line that is still being written is left out.

    Raises:
      UserError: it cannot be read, or a line is not as `Metrics` writes it.
    """
    try:
        # The text after the last line break is empty, or half of a line.
        *complete, _ = path.read_text(encoding="utf-8").split("\n")
        return [parse_line(line) for line in complete]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(
            f"{path} has a broken line ({error}); resume the run, which mends it"
        ) from error


def best_validation(path: Path) -> tuple[int, float] | None:
    """Returns the first step with the lowest top-1 validation error, and that error from 0 to 1.

    Args:
      path: of metrics.jsonl. The result is None if it is missing or holds no validation.

    Raises:
      UserError: the file cannot be read.
    """
    if not path.exists():
        return None
    lines = read_lines(path)
    # Pairs, so that min takes the earliest of equal errors.
    errors = [(x["val/top1_error"], x["step"]) for x in lines if "val/top1_error" in x]
    error, step = min(errors, default=(0.0, None))
    return None if step is None else (step, error)


class Board:
    """TensorBoard's copy of the metrics, in an event file that is opened by the first write.

    tensorboardX's own SummaryWriter writes in a thread, which a full disk ends silently.
    """

    def __init__(self, folder: Path, step: int) -> None:
        """Makes the folder; TensorBoard will hide what an earlier run wrote after `step`."""
        folder.mkdir(exist_ok=True)
        self._folder, self._hidden_from = folder, step + 1
        self._file: EventsWriter | None = None
        self._files, self._flushed = 0, time.monotonic()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the values. Raises OSError if that fails; the next write opens a new file."""
        try:
            if self._file is None:
                self._file = self._open()
            for name, value in values.items():
                event = Event(wall_time=time.time(), step=step, summary=scalar(name, value))
                self._file.write_event(event)
            if time.monotonic() - self._flushed > SECONDS_BETWEEN_FLUSHES:
                self.flush()
        except OSError:
            self._file = None
            raise

    def _open(self) -> EventsWriter:
        # tensorboardX names a file by the second it was made in, so a second one in the same second
        # would overwrite the first.
        self._files += 1
        name = f".{os.getpid()}.{self._files}"
        file = EventsWriter(str(self._folder / "events"), name)
        if self._files == 1:
            start = SessionLog(status=SessionLog.START)
            # TensorBoard discards events of this step and later ones when it reads a START.
            hide = Event(wall_time=time.time(), step=self._hidden_from, session_log=start)
            file.write_event(hide)
        return file

    def flush(self) -> None:
        """Flushes the event file. Raises OSError as `write` does."""
        self._flushed = time.monotonic()
        try:
            if self._file is not None:
                self._file.flush()
        except OSError:
            self._file = None
            raise


class Metrics:
    """The writer of metrics.jsonl and of TensorBoard's copy.

    Lines that do not fit on a full disk are kept in memory until there is room.
    """

    def __init__(
        self, workdir: Path, step: int, validated_step: int, on_full_disk: str = full_disk.STOP
    ) -> None:
        """Continues the files of a run restored at `step` and validated at `validated_step`."""
        cut_back(workdir / FILE, step, validated_step)
        self._path, self._on_full_disk = workdir / FILE, on_full_disk
        # Unbuffered: a line that a killed process has written is in the file.
        self._file = self._path.open("ab", buffering=0)
        self._held, self._reported, self.behind = b"", False, False
        self._board = Board(workdir / "tensorboard", step)

    def write(self, step: int, epoch: float, seconds: float, values: Mapping[str, float]) -> None:
        """Writes one line: step, epoch, seconds of training, and the values by name."""
        line = {"step": step, "epoch": round(epoch, 6), "time": round(seconds, 3), **values}
        self._held += (json.dumps(line) + "\n").encode()
        with self._report_full_disk():
            self._to_file()
            self._board.write(step, values)

    def _to_file(self) -> None:
        while self._held:
            # A nearly full disk takes a part of a line; the rest waits for room.
            self._held = self._held[self._file.write(self._held) :]

    @contextlib.contextmanager
    def _report_full_disk(self) -> Iterator[None]:
        """Reports a full disk once per episode, or raises UserError as on_full_disk says.

        `behind` is true while lines are held.
        """
        try:
            yield
        except OSError as error:
            if not (self._reported and full_disk.is_full(error)):
                full_disk.report(f"{self._path} cannot be written", error, self._on_full_disk)
            self._reported = self.behind = True
        else:
            self._reported = self.behind = False

    def sync(self) -> None:
        """Flushes everything written so far to the disk, before a checkpoint is saved."""
        with self._report_full_disk():
            self._to_file()
            os.fsync(self._file.fileno())
            self._board.flush()

    def close(self) -> None:
        """Closes both files."""
        with contextlib.suppress(OSError):  # the board is a copy
            self._board.flush()
        self._file.close()
