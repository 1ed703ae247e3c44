"""The keys that configs/base.py declares, with their types, and a comparison with them."""

import functools
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.runs import rules

CONFIGS = Path(__file__).parents[2] / "configs"  # of the checkout; none if it is installed alone


@functools.cache
def declared() -> Mapping[str, tuple[type, Any]]:
    """Returns the type and the value of every key in configs/base.py; {} without a checkout."""
    file = CONFIGS / "base.py"
    if not file.is_file():
        return {}
    base = runpy.run_path(str(file))["get_config"]()
    return {key: (_type_of(base, key), value) for key, value in rules.flat(base)}


def _type_of(config: ConfigDict, key: str) -> type:
    *sections, last = key.split(".")
    return functools.reduce(getattr, sections, config).get_type(last)


def missing_key(settings: Mapping[str, Any]) -> str:
    """Returns the first declared key that these settings lack; "" if they have all of them."""
    return next((key for key in declared() if key not in settings), "")


def wrong_type(settings: Mapping[str, Any]) -> str:
    """Returns a phrase on the first setting that is of another type than its key; "" if none is.

    Args:
      settings: by key, such as data.batch_size; with every declared key.
    """
    for key, (kind, default) in declared().items():
        if settings[key] is not default and not _is_of(settings[key], kind):
            return f"{key}={settings[key]!r} has to be of the type {kind.__name__}"
    return ""


def _is_of(value: Any, kind: type) -> bool:
    """True if a setting of this type can have the value; True is no number."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
