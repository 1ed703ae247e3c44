"""A real training run, watched from outside: how soon its first step is done, and its memory."""

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

FEWEST = 5  # steps that are watched, the first apart
LOOK = 0.01  # seconds between two looks
MAXRSS = 1 if sys.platform == "darwin" else 1024  # bytes in the unit of getrusage
STEP_BY_STEP = (
    "--config.train.steps=1000000000",
    "--config.train.log_every_steps=1",
    "--config.eval.every_epochs=1000000000",
    "--config.checkpoint.every_steps=0",
)


@dataclass(frozen=True)
class Seen:
    """What was seen of a run.

    first_step: seconds from the start of the process to the end of its first step.
    peak: bytes, the most that was resident at any time.
    steps, growth: bytes by which the least in the later half of these steps, after the first, was
      above the least in the earlier half: what is kept, not what comes and goes; without mapped
      files where the system tells (Linux).
    """

    first_step: float
    peak: int
    steps: int
    growth: float


def watch(arguments: Sequence[str], cache: Path, seconds: float) -> Seen:
    """Has `alexnet_jax.main` train as these arguments say, for so many seconds after a first step.

    It is killed then; it saves and validates nothing. cache: where it keeps what it compiles.

    Raises:
      UserError: it ended by itself; with what it said.
    """
    with tempfile.TemporaryDirectory(prefix="alexnet_benchmark-") as folder:
        run, log = Path(folder, "run"), Path(folder, "log")
        command = [sys.executable, "-m", "alexnet_jax.main", *arguments, *STEP_BY_STEP]
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
        begun = time.perf_counter()
        with log.open("w") as file:
            process = subprocess.Popen(
                [*command, f"--workdir={run}"], stdout=file, stderr=file, env=environment
            )
        try:
            first_step, floors = _watched(process.pid, begun, run / FILE, seconds, log)
        finally:
            os.kill(process.pid, signal.SIGKILL)  # Popen.kill might reap it, and its usage with it
            usage = _reaped(process)
    return Seen(first_step, usage.ru_maxrss * MAXRSS, len(floors) - 1, growth(floors[1:]))


def growth(floors: Sequence[float]) -> float:
    """The least of the later half less the least of the earlier half."""
    half = len(floors) // 2
    return min(floors[half:]) - min(floors[:half])


def _watched(
    pid: int, begun: float, metrics: Path, seconds: float, log: Path
) -> tuple[float, list[float]]:
    """Seconds to the first line of the metrics, and the least memory before each line."""
    process, floors, first = psutil.Process(pid), [math.inf], 0.0
    while True:
        if process.status() == psutil.STATUS_ZOMBIE:
            raise UserError(f"training ended by itself: {log.read_text()[-500:]}")
        done, now = _lines(metrics), time.perf_counter() - begun
        first = first or (now if done else 0.0)
        memory = _private(process)
        floors += [memory] * (done + 1 - len(floors))  # of steps too quick for a look of their own
        floors[-1] = min(floors[-1], memory)
        if first and done > FEWEST and now - first >= seconds:
            return first, floors[:-1]
        time.sleep(LOOK)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _private(process: psutil.Process) -> int:
    """Resident bytes, without those of mapped files and shared memory if they can be told apart."""
    memory = process.memory_info()
    return memory.rss - getattr(memory, "shared", 0)


def _reaped(process: subprocess.Popen) -> resource.struct_rusage:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage
