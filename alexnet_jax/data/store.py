"""The store on disk, as training reads it; `store_writer` writes it.

    DIR/manifest.json              written last: without it the store is not complete
    DIR/labels.txt                 class names, one a line
    DIR/mean_image.npy             float32 [S, S, 3], 0–255, over the training set
    DIR/colour.npz                 stdevs float32 [3], components float32 [3, 3], 0–255
    DIR/{train,val,test}/labels.npy            int32 [N]
    DIR/{train,val,test}/images.npy            encoding raw: uint8 [N, S, S, 3]
    DIR/{train,val,test}/images.array_record   encoding jpeg: ArrayRecord, one JPEG a record

Opening reads the manifest and the statistics and maps the rest into memory: it takes as long for a
million images as for a thousand.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_jax.data.statistics import ColourComponents
from alexnet_jax.errors import UserError

VERSION = 1
MANIFEST = "manifest.json"
PARTIAL = "partial.json"  # only in a store that is being written
IMAGE_FILES = {"raw": "images.npy", "jpeg": "images.array_record"}


@dataclass(frozen=True, eq=False)
class JpegRecords:
    """JPEG files by index, in an ArrayRecord file that is opened when first read."""

    path: Path
    count: int
    image_size: int  # pixels

    def __len__(self) -> int:
        return self.count

    @functools.cached_property
    def _reader(self) -> object:
        from array_record.python.array_record_module import ArrayRecordReader

        return ArrayRecordReader(str(self.path), "readahead_buffer_size:0,max_parallelism:0")

    def read(self, rows: Sequence[int]) -> list[bytes]:
        """The JPEG files of these rows. Raises RuntimeError or ValueError for a broken file."""
        return self._reader.read([int(row) for row in rows])


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one size with their labels.

    images: uint8 [M, S, S, 3] (an array or a memory-mapped file), or JpegRecords.
    labels: int32 [N], 0 … classes − 1.
    rows: int64 [N], which of `images` belong to the split, ascending; None = all.
    """

    images: np.ndarray | JpegRecords
    labels: np.ndarray
    rows: np.ndarray | None = None

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


def read_manifest(directory: Path) -> dict:
    """The manifest of a complete store, after a look at the size of every file.

    Raises UserError where it is unreadable, of another version, or a file is missing or cut.
    """
    again = "remove the folder and run `python -m alexnet_jax.prepare` again"
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{directory / MANIFEST} cannot be read ({error}): {again}") from error
    if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
        raise UserError(f"{directory / MANIFEST} is not of version {VERSION}: {again}")
    for name, entry in manifest["files"].items():
        path = directory / name
        found = path.stat().st_size if path.is_file() else 0
        if found != entry["bytes"]:
            raise UserError(f"{path} has {found} bytes instead of {entry['bytes']}: {again}")
    return manifest


def open_store(directory: Path) -> Dataset:
    """The data set of a complete store. Raises UserError as read_manifest does."""
    manifest = read_manifest(directory)
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
    """One split of a store, memory-mapped or to be read record by record."""
    labels = np.load(directory / name / "labels.npy", mmap_mode="r", allow_pickle=False)
    path = directory / name / IMAGE_FILES[manifest["encoding"]]
    if manifest["encoding"] == "jpeg":
        return Split(JpegRecords(path, manifest["counts"][name], manifest["image_size"]), labels)
    return Split(np.load(path, mmap_mode="r", allow_pickle=False), labels)
