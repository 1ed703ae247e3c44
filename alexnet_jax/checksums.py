"""The record of a folder: size and SHA-256 of every file in it, and whether they still hold."""

import functools
import hashlib
import json
from pathlib import Path

from alexnet_jax.durable import path_to_disk, write_text

RECORD = "checksums.json"


def of_file(path: Path) -> dict[str, int | str]:
    """Size in bytes and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def seal(folder: Path) -> None:
    """Brings all files below a folder onto the disk, then writes their record."""
    files = {}
    for path in sorted(folder.rglob("*")):
        path_to_disk(path)
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = of_file(path)
    write_text(folder / RECORD, json.dumps(files, indent=1) + "\n")


def fault(folder: Path) -> str:
    """Why a folder is not what was sealed, for a person; empty if it is."""
    try:
        return _fault(folder, _looks(folder))
    except OSError as error:
        return f"it cannot be read ({error.strerror})"


def _looks(folder: Path) -> tuple[tuple, ...]:
    """What changes whenever a file is written, moved or removed."""
    found = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return tuple((path, x.st_ino, x.st_size, x.st_mtime_ns) for path, x in found)


@functools.lru_cache  # a command looks at a checkpoint several times; hashing takes seconds a GB
def _fault(folder: Path, looks: tuple[tuple, ...]) -> str:
    if not looks:
        return "it is empty"
    if not (folder / RECORD).is_file():
        return f"it has no {RECORD}: it was not written to its end"
    try:
        files = dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        return f"{RECORD} cannot be read ({error})"
    return next(filter(None, (_file_fault(folder, name, files[name]) for name in files)), "")


def _file_fault(folder: Path, name: str, recorded: object) -> str:
    if not (folder / name).is_file():
        return f"{name} is missing"
    found = of_file(folder / name)
    if found == recorded:
        return ""
    size = recorded.get("bytes") if isinstance(recorded, dict) else None
    if found["bytes"] != size:
        return f"{name} has {found['bytes']} bytes instead of {size}"
    return f"the content of {name} has changed"
