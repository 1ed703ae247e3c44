"""The command `launch/sweep.py`, run as a user would, and the table that it writes."""

import csv
import os
import subprocess
import sys

from commands import TOP

SCRIPT = TOP / "launch" / "sweep.py"

BASE = "--config=configs/base.py"
RATES = "--grid=config.optim.learning_rate=0.01,0.02"
# Four layers on 32 pixels: what compiles fastest.
TINY = (
    BASE, "--config.model.name=four_layer", "--config.data.image_size=32",
    "--config.data.crop_size=32", "--config.data.batch_size=160", "--config.train.steps=1",
)  # fmt: skip


def words(*arguments):
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


def run(*arguments, code=0, **environment):
    """The real command, which has to end with this exit code."""
    done = subprocess.run(
        words(*arguments), cwd=TOP, capture_output=True, text=True, env=os.environ | environment
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def rows_of(folder):
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))
