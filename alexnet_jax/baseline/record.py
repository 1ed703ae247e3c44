"""The record of a result: config.json, result.json and predictions.npz, each under 300 kB."""

import json
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.baseline.experiment import Settings
from alexnet_jax.disk.durable import write_text
from alexnet_jax.runs.machine import processor, versions

TOP = Path(__file__).resolve().parents[2]


def command_line() -> str:
    """Returns the command that this process was started with, ready to be given again."""
    return shlex.join(["python", "-m", "alexnet_jax.baseline", *sys.argv[1:]])


def commit() -> str:
    """Returns the commit of this code, with "-changed" if files differ from it; "" outside git."""
    # The full hash: without tags and without an abbreviation.
    git = ["git", "-C", str(TOP), "describe", "--always", "--exclude=*", "--abbrev=40"]
    git.append("--dirty=-changed")
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def origin() -> dict[str, str]:
    """Returns the command, commit and machine."""
    return {"command": command_line(), "commit": commit(), "machine": processor()}


def write(
    folder: Path,
    config: ConfigDict,
    settings: Settings,
    result: dict[str, Any],
    top5: np.ndarray,
) -> None:
    """Writes the three files of a record.

    Args:
      folder: of the record; made if it is missing.
      config: of the run.
      settings: values of the other flags.
      result: content of result.json, with command, commit and machine.
      top5: int [N, 5], the classes with the highest scores for each test image, highest first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = np.uint8 if top5.max() < 256 else np.uint16
    np.savez_compressed(
        folder / "predictions.npz", top1=top5[:, 0].astype(kind), top5=top5.astype(kind)
    )
    used = {"config": config.to_dict(), "flags": asdict(settings), "seed": config.seed}
    made = {key: result[key] for key in ("command", "commit", "machine")}
    _write_json(folder / "config.json", used | made | {"versions": versions()})
    # Last, so that a folder with it is a complete record.
    _write_json(folder / "result.json", result)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    write_text(path, json.dumps(value, indent=1) + "\n")
