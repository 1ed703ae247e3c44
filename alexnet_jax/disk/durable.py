"""Files that are complete or absent, also after a power cut."""

import os
from pathlib import Path
from typing import IO


def to_disk(file: IO) -> None:
    """Flushes what was written to the disk."""
    file.flush()
    os.fsync(file.fileno())


def path_to_disk(path: Path) -> None:
    """Flushes a file's content, or the names in a folder, to the disk.

    A rename is on the disk once its folder is.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8 as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically: no reader ever sees a part of it."""
    # Beside it: a rename is atomic on one file system only.
    draft = path.with_name(path.name + ".draft")
    with draft.open("wb") as file:
        file.write(content)
        to_disk(file)
    # Only once the content is on the disk: otherwise a power cut can leave an empty file.
    draft.replace(path)
    path_to_disk(path.parent)
