"""Start-up time and memory of a real training run, measured from outside its process."""

import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from alexnet_jax.errors import UserError
from alexnet_jax.runs.metrics import FILE

MIN_STEPS = 5  # steps of the measurement, not counting the first
PERIOD = 0.01  # seconds between two readings of the memory
MAXRSS = 1 if sys.platform == "darwin" else 1024  # bytes in the unit of getrusage
STEP_BY_STEP = (
    "--config.train.steps=1000000000",  # it runs until it is killed …
    "--config.train.stop_at_train_error=0.0",  # … however well it learns
    "--config.train.log_every_steps=1",  # lines of metrics.jsonl are counted as steps
    "--config.eval.every_epochs=1000000000",
    "--config.checkpoint.every_steps=0",
)


@dataclass(frozen=True)
class StartUp:
    """Start-up time and memory of a run.

    Attributes:
      first_step: seconds from the start of the process to the end of its first step.
      peak: largest resident memory in bytes.
      steps: number of steps measured after the first.
      growth: bytes that the memory grew over these steps, as `growth` measures it. On Linux mapped
        files are not counted.
    """

    first_step: float
    peak: int
    steps: int
    growth: float


def profile_start_up(arguments: Sequence[str], cache: Path, seconds: float) -> StartUp:
    """Runs `alexnet_jax.main` with these arguments and measures its start-up time and memory.

    The run neither saves nor validates.

    Args:
      arguments: of `alexnet_jax.main`.
      cache: folder of its compilation cache.
      seconds: from its first step until it is killed.

    Raises:
      UserError: the run ended by itself. The message has the end of its output.
    """
    with tempfile.TemporaryDirectory(prefix="alexnet_benchmark-") as folder:
        run, log = Path(folder, "run"), Path(folder, "log")
        command = [sys.executable, "-m", "alexnet_jax.main", *arguments, *STEP_BY_STEP]
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
        start = time.perf_counter()
        with log.open("w") as file:
            process = subprocess.Popen(
                [*command, f"--workdir={run}"], stdout=file, stderr=file, env=environment
            )
        try:
            first_step, minima = _follow(process.pid, start, run / FILE, seconds, log)
        finally:
            # Popen.kill might reap the process, and its resource usage would be lost.
            os.kill(process.pid, signal.SIGKILL)
            usage = _reap(process)
    # Without the first step, whose memory the compiler also used.
    return StartUp(first_step, usage.ru_maxrss * MAXRSS, len(minima) - 1, growth(minima[1:]))


def growth(minima: Sequence[float]) -> float:
    """Returns the minimum of the second half minus the minimum of the first half.

    Minima show the memory that is kept; memory that comes and goes within a step does not count.
    """
    half = len(minima) // 2
    return min(minima[half:]) - min(minima[:half])


def _follow(
    pid: int, start: float, metrics: Path, seconds: float, log: Path
) -> tuple[float, list[float]]:
    """Returns the seconds to the first line of the metrics, and the least memory before each line.

    A step that is shorter than PERIOD gets the next reading after it.
    """
    process, minima, first = psutil.Process(pid), [math.inf], 0.0
    while True:
        # A child that has ended stays a zombie until it is reaped.
        if process.status() == psutil.STATUS_ZOMBIE:
            raise UserError(f"training ended by itself: {log.read_text()[-500:]}")
        done, now = _lines(metrics), time.perf_counter() - start
        first = first or (now if done else 0.0)
        memory = _private(process)
        # Several steps can pass between two readings.
        minima += [memory] * (done + 1 - len(minima))
        minima[-1] = min(minima[-1], memory)
        if first and done > MIN_STEPS and now - first >= seconds:
            return first, minima[:-1]  # the last one is of a step under way
        time.sleep(PERIOD)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _private(process: psutil.Process) -> int:
    """Returns the resident bytes, without mapped files and shared memory if the system has them."""
    memory = process.memory_info()
    # Pages of mapped files come and go with the page cache, not with the program.
    return memory.rss - getattr(memory, "shared", 0)


def _reap(process: subprocess.Popen) -> resource.struct_rusage:
    _, status, usage = os.wait4(process.pid, 0)  # Popen.wait has no resource usage
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage
