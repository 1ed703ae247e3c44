"""The records in results/: folders with run.json, config.json and metrics.jsonl."""

import json
from pathlib import Path

from alexnet_jax.errors import UserError
from alexnet_jax.figures.curves import read_metrics, series

FILE = "run.json"  # in the folder of every record
MAKE = "make them with launch/evidence.py"


def record_folders(folder: Path) -> list[Path]:
    """Returns the folders of the records in a folder, in the order of their names."""
    return sorted(path.parent for path in folder.glob(f"*/{FILE}"))


def read_number(record: Path, *keys: str) -> float:
    """Returns the number, True or False under nested keys of a record's run.json.

    Raises:
      UserError: the file cannot be read or has no such number.
    """
    path = record / FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        for key in keys:
            value = value[key]
        if not isinstance(value, int | float):
            raise ValueError(f"{value!r} is no number")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{path} has no {' '.join(keys)} ({error}); bring it back, or {MAKE}"
        ) from error
    return value


def read_series(record: Path, key: str, x: str = "epoch") -> tuple[list[float], list[float]]:
    """Reads two lists of equal length from a record's metrics.jsonl, as `series` returns them.

    Raises:
      UserError: the file is missing or broken, or no line has the key.
    """
    found = series(read_metrics(record), key, x)
    if not found[0]:
        raise UserError(f"{record} has no line with {key} in its metrics.jsonl; {MAKE}")
    return found
