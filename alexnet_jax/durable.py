"""Files that are whole or not there at all, also after a power cut."""

import os
from pathlib import Path
from typing import IO


def to_disk(file: IO) -> None:
    """Returns when what was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def path_to_disk(path: Path) -> None:
    """Returns when a file's content, or the names in a folder, are on the disk.

    A rename is not until its folder is.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes a text file all at once: it is never seen half-written."""
    draft = path.with_name(path.name + ".draft")
    with draft.open("wb") as file:
        file.write(text.encode())
        to_disk(file)
    draft.replace(path)
    path_to_disk(path.parent)
