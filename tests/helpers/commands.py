"""Runs the real commands, as a user would, from the repository's top folder."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
# Nine steps an epoch of a net that compiles in seconds, with all that is random switched on.
SMALL = (
    "--config=configs/base.py",
    "--config.data.image_size=70",
    "--config.model.width=0.0625",
    "--config.data.batch_size=160",
    "--config.data.augment.flip=True",
    "--config.data.augment.colour=code",
    "--config.train.log_every_steps=1",
)

# What follows `python` of every command: of the package, and of launch/.
ALL = [
    *(
        ["-m", ".".join(path.relative_to(TOP).with_suffix("").parts).removesuffix(".__main__")]
        for path in sorted((TOP / "alexnet_jax").rglob("*.py"))
        if "command.run(" in path.read_text() and path.parent.name != "cli"
    ),
    *(
        [f"launch/{path.name}"]
        for path in sorted((TOP / "launch").glob("*.py"))
        if "command.run(" in path.read_text()
    ),
]


def command(module, *arguments):
    """The command line of `python -m alexnet_jax.<module>`."""
    return [sys.executable, "-m", f"alexnet_jax.{module}", *map(str, arguments)]


def run(module, *arguments, code=0, env=None, cwd=TOP):
    """Runs to the end and insists on the exit code; `env` is added to the environment."""
    done = subprocess.run(
        command(module, *arguments),
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def start(module, *arguments, env=None):
    """Starts and returns at once; `env` is added to the environment."""
    return subprocess.Popen(
        command(module, *arguments),
        cwd=TOP,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
    )


def in_process(module, *arguments, with_config=False):
    """Runs a command to its good end in the tests' own process, where jax is imported already."""
    from alexnet_jax.cli import command  # it sets variables that commands in a shell inherit

    argv = ["command", *map(str, arguments)]
    values = command.parse(argv, module.define_flags, with_config=with_config)
    assert module.main(values) == 0


def error_line(done):
    """The one line on stderr that a user's mistake gets."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


def lines(workdir):
    """metrics.jsonl so far, without a last line that is still being written."""
    path = workdir / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def lasting(workdir):
    """metrics.jsonl without what depends on the clock."""
    clock = ("time", "train/images_per_second")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines(workdir)]


def wait_for_step(process, workdir, step):
    """Returns once the run has written a line of this step or a later one."""
    for _ in range(12_000):
        if any(line["step"] >= step for line in lines(workdir)):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError(f"no step {step} in ten minutes")
