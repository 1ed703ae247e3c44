"""The submission of a sweep's points as one SLURM array job."""

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from alexnet_jax.errors import UserError


def check_sbatch() -> None:
    """Raises UserError unless sbatch is installed."""
    if not shutil.which("sbatch"):
        raise UserError("--slurm needs sbatch, which is not on the PATH; leave --slurm out")


def array_of(numbers: Sequence[int], total: int, at_a_time: int) -> str:
    """Returns sbatch's --array for these task numbers of 0 … total − 1, such as 0-3%2 or 1,3%2."""
    listed = f"0-{total - 1}" if len(numbers) == total else ",".join(map(str, numbers))
    return f"{listed}%{at_a_time}"


def submit(command: Sequence[str], array: str, folder: Path) -> str:
    """Submits one array job and returns its number.

    Args:
      command: of a task; `--only=<its number>` is added to it.
      array: numbers of the tasks, as `array_of` returns them.
      folder: of the tasks' output.

    Raises:
      UserError: sbatch refuses the job.
    """
    options = {
        "job-name": "sweep",
        "ntasks": "1",
        "array": array,
        # A % of the folder's own would begin one of sbatch's placeholders.
        "output": f"{str(folder).replace('%', '%%')}/slurm-%A_%a.out",
        # exec, so that a signal reaches Python and not a shell that waits for it.
        "wrap": f'exec {shlex.join(command)} --only="$SLURM_ARRAY_TASK_ID"',
    }
    arguments = ["sbatch", "--parsable", *(f"--{k}={v}" for k, v in options.items())]
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"sbatch refused the job: {done.stderr or done.stdout}")
    return done.stdout.strip()
