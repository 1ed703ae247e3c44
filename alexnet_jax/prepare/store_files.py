"""Writers of the files in a store; each flushes its file to the disk before it returns."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from alexnet_jax.data.store import IMAGE_FILES, json_text
from alexnet_jax.disk.durable import to_disk, write_text
from alexnet_jax.errors import UserError


@contextlib.contextmanager
def raw_writer(folder: Path, count: int, side: int) -> Iterator[Callable[[memoryview], None]]:
    """Yields a function that appends one image, uint8 [side, side, 3], to images.npy.

    Args:
      folder: of the split.
      count: the largest number of images that may be written.
      side: pixels.
    """
    written = 0

    def header(file: BinaryIO, images_in_it: int) -> None:
        shape = (images_in_it, side, side, 3)
        described = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, described)

    def write(record: memoryview) -> None:
        nonlocal written
        file.write(record)
        written += 1

    with (folder / IMAGE_FILES["raw"]).open("wb") as file:
        header(file, count)
        yield write
        # The number of images is known only now, because bad ones may be left out. NumPy pads the
        # header, so its length is the same for any smaller number.
        file.seek(0)
        header(file, written)
        to_disk(file)


@contextlib.contextmanager
def jpeg_writer(folder: Path, count: int, side: int) -> Iterator[Callable[[bytes], None]]:
    """Yields a function that appends one JPEG file to images.array_record.

    The arguments are those of `raw_writer`.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    path = folder / IMAGE_FILES["jpeg"]
    # Groups of one, because a group is read as a whole and training reads single images.
    # Uncompressed, because JPEGs do not shrink any further.
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    try:
        yield writer.write
    finally:
        writer.close()
    # The writer closes its file without flushing it to the disk.
    with path.open("rb+") as file:
        to_disk(file)


IMAGE_WRITERS = {"raw": raw_writer, "jpeg": jpeg_writer}


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes an .npy file."""
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        to_disk(file)


def write_json(path: Path, content: dict) -> None:
    """Writes a JSON file atomically: no reader sees it half-written."""
    write_text(path, json_text(content))


def read_json(path: Path) -> dict:
    """Reads a JSON object; raises UserError if the file holds none."""
    try:
        # Unpacked, so that a list or a number is a TypeError.
        return {**json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}): remove its folder") from error
