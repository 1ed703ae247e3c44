"""Files that are complete or absent, also after a power cut."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def to_disk(file: IO) -> None:
    """Flushes the data that were written to an open file to the disk."""
    file.flush()  # from Python's buffer to the kernel, which fsync flushes
    os.fsync(file.fileno())


def path_to_disk(path: Path) -> None:
    """Flushes the content of a file, or the names in a folder, to the disk.

    A new or renamed file survives a power cut only once its folder is flushed.
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
    """Writes a file as `complete_file` does."""
    with complete_file(path) as file:
        file.write(content)


@contextmanager
def complete_file(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file to be written atomically: no reader ever sees a part of it.

    An older file of this name stays until the new one is complete. If anything fails, as on a full
    disk, the error is raised and no part of the file is left.
    """
    # In the same folder, because a rename is atomic only inside one file system.
    draft = path.with_name(path.name + ".draft")
    try:
        with draft.open("wb") as file:
            yield file
            to_disk(file)
    except BaseException:
        draft.unlink(missing_ok=True)  # a part of a file would hold the last of a full disk
        raise
    # Renamed only once the content is on the disk: a power cut could otherwise leave an empty file.
    draft.replace(path)
    path_to_disk(path.parent)
