"""Settings that configs/base.py gained later, each with the value that older runs imply.

A run's config.json holds every setting that existed when the run began. A setting that is added to
configs/base.py gets a line in ADDED, so that older runs can still be resumed, evaluated and loaded.
"""

from collections.abc import Mapping
from typing import Any

# section: {setting: the value, as JSON stores it, with which a run computes what it did before}
ADDED = {
    "model": {"initial": []},
    "optim": {"layer_factors": [], "trust_coefficient": 0.001, "warmup_epochs": 0.0},
    "train": {
        "accumulate_steps": 1,
        "compute_dtype": "float32",
        "ema_decay": 0.0,
        "label_smoothing": 0.0,
    },
}


def with_added(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a run, completed by those that were added after it began.

    Args:
      settings: the content of a config.json, by section.
    """
    # The run's own values come second: a setting that it has keeps its value.
    completed = {name: {**new, **settings[name]} for name, new in ADDED.items() if name in settings}
    return {**settings, **completed}
