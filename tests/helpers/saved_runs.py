"""Workdirs with a checkpoint that holds no net: what the checks before a run look at."""

import json

from alexnet_jax.runs import workdir
from alexnet_jax.runs.record import RunRecord, write_record


def save_run(directory, config, record=None, step=7):
    """Writes config.json and an intact checkpoint with a record."""
    draft = workdir.draft_folder(directory, step)
    draft.mkdir(parents=True)
    (draft / "params").write_bytes(bytes(100))
    write_record(draft, record or RunRecord(1.0, "threefry2x32", None))
    workdir.commit(directory, step, None, keep=2)
    workdir.write_config(directory, config)


def contents(folder):
    """Returns the time and the content of every file, and every folder, by its path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
    return found


def write_json(path, value):
    """Writes a JSON file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
