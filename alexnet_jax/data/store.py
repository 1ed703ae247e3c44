"""The store on disk, as training reads it; `store_writer` writes it.

    DIR/manifest.json              written last: without it the store is not complete; holds the
                                   SHA-256 of every other file, and of itself without that entry
    DIR/labels.txt                 class names, one a line
    DIR/mean_image.npy             float32 [S, S, 3], 0–255, over the training set
    DIR/colour.npz                 stdevs float32 [3], components float32 [3, 3], 0–255
    DIR/{train,val,test}/labels.npy            int32 [N]
    DIR/{train,val,test}/checksums.npy         uint32 [N], CRC-32 of each image's pixels or JPEG
    DIR/{train,val,test}/images.npy            encoding raw: uint8 [N, S, S, 3]
    DIR/{train,val,test}/images.array_record   encoding jpeg: ArrayRecord, one JPEG a record

Opening reads and verifies everything but the images, eight bytes an image, and so takes the same
second for a million images as for a thousand. Each image is verified when it is read (`records`).
"""

import functools
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from alexnet_jax.data.statistics import ColourComponents
from alexnet_jax.disk.checksums import of_file
from alexnet_jax.errors import UserError

VERSION = 2
AGAIN = "remove the folder and run `python -m alexnet_jax.prepare` again"
LABELS, CHECKSUMS = "labels.npy", "checksums.npy"
SELF = "sha256"  # the manifest's own entry
MANIFEST = "manifest.json"
PARTIAL = "partial.json"  # only in a store that is being written
IMAGE_FILES = {"raw": "images.npy", "jpeg": "images.array_record"}


@dataclass(frozen=True, eq=False)
class JpegRecords:
    """JPEG files by index, in an ArrayRecord file that is opened when first read."""

    path: Path
    shape: tuple[int, int, int, int]  # (count, S, S, 3), decoded

    @functools.cached_property
    def _reader(self) -> object:
        from array_record.python.array_record_module import ArrayRecordReader

        return ArrayRecordReader(str(self.path), "readahead_buffer_size:0,max_parallelism:0")

    def read(self, rows: Sequence[int]) -> list[bytes]:
        """The JPEG files of these rows. Raises RuntimeError, ValueError or IndexError if broken.

        One by one, for a list of rows costs ArrayRecord time for every record of the file.
        """
        ranges = (self._reader.read(int(row), int(row) + 1) for row in rows)
        return [file for (file,) in ranges]


@dataclass(frozen=True, eq=False)
class RawRecords:
    """Pixels by index, in an .npy file that is opened when first read.

    Not mapped into memory: what is mapped counts as the process's own, up to the whole file, and a
    file that is cut under it ends the process. The file's own header, which may be damaged, is not
    looked at.
    """

    path: Path
    shape: tuple[int, int, int, int]  # (count, S, S, 3)
    header: int  # bytes before the first image

    @functools.cached_property
    def _file(self) -> BinaryIO:
        return self.path.open("rb", buffering=0)

    def read_into(self, row: int, image: np.ndarray) -> None:
        """Fills uint8 [S, S, 3]. Raises OSError or ValueError for a broken file."""
        file = self._file  # kept open while it is read
        if os.preadv(file.fileno(), [image], self.header + row * image.nbytes) != image.nbytes:
            raise ValueError("the file ends before it")


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one size with their labels.

    images: uint8 [M, S, S, 3] in memory, or the file that holds them.
    labels: int32 [N], 0 … classes − 1.
    rows: int64 [N], which of `images` belong to the split, ascending; None = all.
    checksums: uint32 [M], CRC-32 of each of `images`; None = they are not verified.
    """

    images: np.ndarray | RawRecords | JpegRecords
    labels: np.ndarray
    rows: np.ndarray | None = None
    checksums: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """What training reads: labelled splits, and the statistics of the training set.

    The statistics are over the whole training set, also where a validation split was taken from it.
    """

    name: str
    image_size: int  # pixels, side of the stored images
    class_names: tuple[str, ...]
    splits: dict[str, Split]  # train, and val and test where there are any
    mean_image: np.ndarray  # float32 [S, S, 3], 0–255
    colour: ColourComponents
    checksum: str  # hexadecimal SHA-256, changes with the content


def is_complete(directory: Path) -> bool:
    """Whether a store has been written to its end."""
    return (directory / MANIFEST).is_file()


def digest_of(manifest: dict) -> str:
    """SHA-256 of a manifest's content but for its own entry."""
    content = {key: value for key, value in manifest.items() if key != SELF}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(directory: Path) -> dict:
    """The manifest of a complete store, after a look at the size of every file.

    Raises UserError where it is unreadable, damaged, of another version, or a file is missing or
    cut.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}): {AGAIN}") from error
    if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
        raise UserError(f"{path} is not of version {VERSION}: {AGAIN}")
    if manifest.get(SELF) != digest_of(manifest):
        raise UserError(f"{path} has been changed since it was written: {AGAIN}")
    for name, entry in manifest["files"].items():
        file = directory / name
        found = file.stat().st_size if file.is_file() else 0
        if found != entry["bytes"]:
            raise UserError(f"{file} has {found} bytes instead of {entry['bytes']}: {AGAIN}")
    return manifest


def check_small_files(directory: Path, manifest: dict) -> None:
    """Raises UserError if a file other than the images is not what was written."""
    for name, entry in manifest["files"].items():
        if Path(name).name not in IMAGE_FILES.values() and of_file(directory / name) != entry:
            raise UserError(f"{directory / name} has been changed since it was written: {AGAIN}")


def open_store(directory: Path) -> Dataset:
    """The data set of a complete store.

    Raises UserError as read_manifest does, and for damaged labels, checksums or statistics.
    """
    manifest = read_manifest(directory)
    check_small_files(directory, manifest)
    with np.load(directory / "colour.npz", allow_pickle=False) as arrays:
        colour = ColourComponents(arrays["stdevs"], arrays["components"])
    return Dataset(
        name=manifest["name"],
        image_size=manifest["image_size"],
        class_names=tuple(manifest["class_names"]),
        splits={name: open_split(directory, manifest, name) for name in manifest["counts"]},
        mean_image=np.load(directory / "mean_image.npy", allow_pickle=False),
        colour=colour,
        checksum=hashlib.sha256((directory / MANIFEST).read_bytes()).hexdigest(),
    )


def open_split(directory: Path, manifest: dict, name: str) -> Split:
    """One split of a store, to be read record by record.

    Raises UserError for labels that are not classes.
    """
    folder, count, side = directory / name, manifest["counts"][name], manifest["image_size"]
    labels, checksums = (
        np.load(folder / file, mmap_mode="r", allow_pickle=False) for file in (LABELS, CHECKSUMS)
    )
    classes = len(manifest["class_names"])
    if len(labels) != count or labels.min() < 0 or labels.max() >= classes:
        raise UserError(
            f"{folder / LABELS} has {len(labels)} labels from {labels.min()} to {labels.max()} for "
            f"{count} images of {classes} classes: {AGAIN}"
        )
    path, shape = folder / IMAGE_FILES[manifest["encoding"]], (count, side, side, 3)
    if manifest["encoding"] == "jpeg":
        images = JpegRecords(path, shape)
    else:
        images = RawRecords(path, shape, header=path.stat().st_size - math.prod(shape))
    return Split(images, labels, checksums=checksums)
