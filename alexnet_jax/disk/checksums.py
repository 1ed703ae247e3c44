"""Checksums of a folder: size and SHA-256 of every file, written once and compared later."""

import functools
import hashlib
import json
from pathlib import Path

from alexnet_jax.disk.durable import path_to_disk, write_text

RECORD = "checksums.json"


def of_file(path: Path) -> dict[str, int | str]:
    """Returns the size in bytes and the SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def seal(folder: Path) -> None:
    """Flushes all files below a folder to the disk, then writes their checksums."""
    files = {}
    for path in sorted(folder.rglob("*")):
        path_to_disk(path)
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = of_file(path)
    # Last: a folder that was interrupted has no record, and so counts as damaged.
    write_text(folder / RECORD, json.dumps(files, indent=1) + "\n")


def damage(folder: Path) -> str:
    """Describes how a folder differs from its recorded checksums; empty if it is intact."""
    try:
        return _damage(folder, _fingerprint(folder))
    except OSError as error:
        return f"it cannot be read ({error.strerror})"


def _fingerprint(folder: Path) -> tuple[tuple, ...]:
    """Returns a value that changes whenever a file is written, moved or removed."""
    found = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return tuple((path, x.st_ino, x.st_size, x.st_mtime_ns) for path, x in found)


# Cached: a command checks a checkpoint several times, and hashing takes seconds per GB.
@functools.lru_cache
def _damage(folder: Path, fingerprint: tuple[tuple, ...]) -> str:
    if not fingerprint:
        return "it is empty"
    if not (folder / RECORD).is_file():
        return f"it has no {RECORD}: it was not written to its end"
    try:
        files = dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        return f"{RECORD} cannot be read ({error})"
    return next(filter(None, (_file_damage(folder, name, files[name]) for name in files)), "")


def _file_damage(folder: Path, name: str, recorded: object) -> str:
    if not (folder / name).is_file():
        return f"{name} is missing"
    found = of_file(folder / name)
    if found == recorded:
        return ""
    # The record itself may be damaged, and still be JSON.
    size = recorded.get("bytes") if isinstance(recorded, dict) else None
    if found["bytes"] != size:
        return f"{name} has {found['bytes']} bytes instead of {size}"
    return f"the content of {name} has changed"
