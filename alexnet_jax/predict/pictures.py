"""The user's pictures: their files, and their pixels as `prepare` stores them."""

import contextlib
import glob
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from alexnet_jax.data import images
from alexnet_jax.data.threads import THREADS, in_order
from alexnet_jax.errors import UserError
from alexnet_jax.prepare.access import unreadable_named
from alexnet_jax.prepare.originals.class_folders import files_below, is_image_name, suffixes
from alexnet_jax.prepare.originals.folder_layout import kinds_of, listed, only_others
from alexnet_jax.prepare.originals.names import readable
from alexnet_jax.prepare.stored_image import read_pixels

AHEAD = 8  # pictures that each thread reads beyond the batch under way


@dataclass(frozen=True)
class Picture:
    """A picture file that was read.

    Attributes:
      path: of the file.
      pixels: uint8 [side, side, 3]; None if the file cannot be used.
      error: why the file cannot be used; "" if it can.
    """

    path: Path
    pixels: np.ndarray | None
    error: str = ""


def find(places: Sequence[str], flag: str) -> list[Path]:
    """Lists picture files, each once, and prints how many other files lie among them.

    Args:
      places: files, folders (searched with everything below them) or glob patterns.
      flag: the command's flag that names them.

    Raises:
      UserError: a place that does not exist or holds no pictures.
    """
    found: dict[Path, None] = {}  # a set that keeps its order
    others: set[Path] = set()
    for place in places:
        named = Path(place).expanduser()
        with unreadable_named():
            files = _files(named)
        # A file that the user has named is read, whatever its ending.
        paths = [path for path in files if path == named or is_image_name(path)]
        rest = set(files) - set(paths)
        if not paths:
            raise UserError(
                f"--{flag}={place}: no pictures found{only_others(suffixes(rest))}; give files, "
                "folders, or patterns such as 'photos/*.jpg'"
            )
        found.update(dict.fromkeys(paths))
        others |= rest
    others -= found.keys()
    if others:
        print(f"files that are not read: {listed(kinds_of(suffixes(others)))}")
    return list(found)


def _files(place: Path) -> list[Path]:
    """Returns the files that a file, folder or pattern stands for, in the order of names."""
    if place.is_file():
        return [place]
    if place.is_dir():
        return sorted(files_below(place))
    matches = map(Path, sorted(glob.glob(str(place), recursive=True)))
    # A pipe or a broken link is neither: as a pattern it matches itself, again and again.
    found = [match for match in matches if match.is_file() or match.is_dir()]
    return [path for match in found for path in _files(match)]


def text_of(path: Path) -> str:
    """Returns a path as text to print and save; bytes that are not UTF-8 are read as Latin-1."""
    return readable(str(path))


def read(path: Path, side: int) -> Picture:
    """Reads a file and brings it to the stored form: shorter side `side` pixels, centre square."""
    # Upright, because cameras store a turned picture with a note of how to turn it.
    try:
        return Picture(path, images.centre_square(read_pixels(path, upright=True), side))
    except images.BadImageError as error:
        return Picture(path, None, str(error))


def read_batches(
    paths: Sequence[Path], side: int, batch_size: int
) -> Iterator[tuple[list[Picture], np.ndarray]]:
    """Reads pictures in threads, ahead of their use, with a progress bar on a terminal.

    Yields:
      up to batch_size pictures, and their pixels as uint8 [B, side, side, 3]; rows without a
      picture are black. All batches have the same size B, so that nothing is recompiled, and it is
      as small as their number allows, so that few rows are computed for nothing.
    """
    # 149 pictures at most 128 at a time are 75 and 74, not 128 and 21 with 107 empty rows.
    batches = math.ceil(len(paths) / batch_size)
    size = math.ceil(len(paths) / batches)
    pictures = in_order(partial(read, side=side), paths, size + AHEAD * THREADS)
    bar = tqdm(total=len(paths), unit=" pictures", disable=not sys.stderr.isatty())
    with contextlib.closing(pictures), bar:  # closing ends the threads if the caller stops early
        while batch := list(itertools.islice(pictures, size)):
            pixels = np.zeros((size, side, side, 3), np.uint8)
            for row, picture in zip(pixels, batch, strict=False):
                if picture.pixels is not None:
                    row[:] = picture.pixels
            yield batch, pixels
            bar.update(len(batch))
