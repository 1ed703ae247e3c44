"""The store on disk, as training reads it; `prepare.store_writer` writes it.

    DIR/manifest.json              written last: without it the store is not complete; holds the
                                   SHA-256 of every other file, of itself without that entry, and
                                   the origin of the images
    DIR/labels.txt                 class names, one a line
    DIR/mean_image.npy             float32 [S, S, 3], 0–255, over the training set
    DIR/colour.npz                 stdevs float32 [3], components float32 [3, 3], 0–255
    DIR/{train,val,test}/labels.npy            int32 [N]
    DIR/{train,val,test}/checksums.npy         uint32 [N], CRC-32 of each image's pixels or JPEG
    DIR/{train,val,test}/names.json            names of the images' original files, for people
    DIR/{train,val,test}/images.npy            encoding raw: uint8 [N, S, S, 3]
    DIR/{train,val,test}/images.array_record   encoding jpeg: ArrayRecord, one JPEG a record

The version covers everything that training reads. The origin and the images' names serve `prepare`
and people. The origin is the request, the source, the fingerprints of the original files, and the
versions of the packages that converted them. Older stores have neither, and are still read.

Opening verifies everything except the images, some forty bytes per image, so that a store of a
million images opens in about the same time as one of a thousand. Each image is verified when it is
read (`records`).
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

from alexnet_jax.data.image_statistics import ColourComponents
from alexnet_jax.disk.checksums import of_file
from alexnet_jax.errors import UserError

VERSION = 2
MEND = "remove the folder and run `python -m alexnet_jax.prepare` again"
LABELS, CHECKSUMS, NAMES = "labels.npy", "checksums.npy", "names.json"
SELF, ORIGIN = "sha256", "origin"  # entries of the manifest: its own checksum, the images' origin
MANIFEST = "manifest.json"
PARTIAL = "partial.json"  # only in a store that is being written
IMAGE_FILES = {"raw": "images.npy", "jpeg": "images.array_record"}


@dataclass(frozen=True, eq=False)
class JpegRecords:
    """Random access to JPEG files in an ArrayRecord file, which is opened on first use."""

    path: Path
    shape: tuple[int, int, int, int]  # (count, S, S, 3), decoded

    @functools.cached_property
    def _reader(self) -> object:
        from array_record.python.array_record_module import ArrayRecordReader

        # Without reading ahead: access is random, so the next records would be fetched in vain.
        return ArrayRecordReader(str(self.path), "readahead_buffer_size:0,max_parallelism:0")

    def read(self, rows: Sequence[int]) -> list[bytes]:
        """Returns the JPEG files of these rows.

        Raises RuntimeError, ValueError or IndexError if the file is broken.
        """
        # One by one: given a list of rows, ArrayRecord spends time on every record of the file.
        ranges = (self._reader.read(int(row), int(row) + 1) for row in rows)
        return [file for (file,) in ranges]


@dataclass(frozen=True, eq=False)
class RawRecords:
    """Random access to images in an .npy file, which is opened on first use.

    The file is read, not memory-mapped: mapped pages count as memory of the process, and a mapped
    file that is truncated kills the process by SIGBUS. The file's own header is ignored, because it
    may be damaged.
    """

    path: Path
    shape: tuple[int, int, int, int]  # (count, S, S, 3)
    header: int  # bytes before the first image

    @functools.cached_property
    def _file(self) -> BinaryIO:
        return self.path.open("rb", buffering=0)

    def read_into(self, row: int, image: np.ndarray) -> None:
        """Reads one image into uint8 [S, S, 3]. Raises OSError or ValueError if it is broken."""
        file = self._file  # a reference that keeps the file open while it is read
        # preadv has an offset of its own: threads that share a file's position would move it.
        if os.preadv(file.fileno(), [image], self.header + row * image.nbytes) != image.nbytes:
            raise ValueError("the file ends before it")


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one size with their labels.

    images: uint8 [M, S, S, 3] in memory, or the file that holds them.
    labels: int32 [N], 0 … classes − 1.
    rows: int64 [N], ascending: the rows of `images` that belong to the split; None = all.
    checksums: uint32 [M], CRC-32 of each of `images`; None = they are not verified.
    names: the file that holds the names of the M images; None = they have none.
    """

    images: np.ndarray | RawRecords | JpegRecords
    labels: np.ndarray
    rows: np.ndarray | None = None
    checksums: np.ndarray | None = None
    names: Path | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled splits and the statistics of the training set.

    The statistics include the images that were held out of the training set for validation.
    """

    name: str
    image_size: int  # pixels, side of the stored images
    class_names: tuple[str, ...]
    splits: dict[str, Split]  # train; val and test if there are any
    mean_image: np.ndarray  # float32 [S, S, 3], 0–255
    colour: ColourComponents
    checksum: str  # hexadecimal SHA-256 of the content, the same for the same images and labels
    source: str = ""  # the original folder or data set, for people; "" = not recorded

    @property
    def sizes(self) -> dict[str, int]:
        """Returns the number of images in each split."""
        return {name: len(split) for name, split in self.splits.items()}


def is_complete(directory: Path) -> bool:
    """True if the folder holds a store that was written completely."""
    return (directory / MANIFEST).is_file()


def digest_of(manifest: dict) -> str:
    """Returns the SHA-256 of a manifest's content, without the manifest's own entry."""
    content = {key: value for key, value in manifest.items() if key != SELF}
    # Sorted: the digest must not depend on the order of the keys in the file.
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def json_text(content: dict) -> str:
    """Returns a JSON object in the form in which the files of a store have it."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def content_checksum(manifest: dict) -> str:
    """Returns the SHA-256 of the content that training reads: no origin, no names of images.

    The same data has the same checksum if it is prepared again from another folder. In older
    stores, which have no origin and no names, it equals the SHA-256 of the file manifest.json,
    which older runs have recorded.
    """
    content = {key: value for key, value in manifest.items() if key not in (SELF, ORIGIN)}
    files = content["files"].items()
    content["files"] = {name: entry for name, entry in files if Path(name).name != NAMES}
    text = json_text(content | {SELF: digest_of(content)})
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(directory: Path) -> dict:
    """Returns the manifest of a complete store, after comparing the size of every file.

    Raises UserError if it is unreadable, damaged or of another version, or a file is missing or
    truncated.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}): {MEND}") from error
    if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
        raise UserError(f"{path} is not of version {VERSION}: {MEND}")
    if manifest.get(SELF) != digest_of(manifest):
        raise UserError(f"{path} has been changed since it was written: {MEND}")
    for name, entry in manifest["files"].items():
        file = directory / name
        found = file.stat().st_size if file.is_file() else 0
        if found != entry["bytes"]:
            raise UserError(f"{file} has {found} bytes instead of {entry['bytes']}: {MEND}")
    return manifest


def check_small_files(directory: Path, manifest: dict) -> None:
    """Raises UserError if any file other than the images has changed since it was written."""
    for name, entry in manifest["files"].items():
        if Path(name).name not in IMAGE_FILES.values() and of_file(directory / name) != entry:
            raise UserError(f"{directory / name} has been changed since it was written: {MEND}")


def open_store(directory: Path) -> Dataset:
    """Opens the data set of a complete store.

    Raises UserError as read_manifest does, and if labels, checksums or statistics are damaged.
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
        checksum=content_checksum(manifest),
        source=manifest.get(ORIGIN, {}).get("source", ""),
    )


def open_split(directory: Path, manifest: dict, name: str) -> Split:
    """Opens one split of a store; its images are read one by one later.

    Raises UserError if a label is no class.
    """
    folder, count, side = directory / name, manifest["counts"][name], manifest["image_size"]
    # Read, not memory-mapped: a mapped file that is truncated would end the process by SIGBUS.
    labels, checksums = (np.load(folder / file, allow_pickle=False) for file in (LABELS, CHECKSUMS))
    classes = len(manifest["class_names"])
    if len(labels) != count or labels.min() < 0 or labels.max() >= classes:
        raise UserError(
            f"{folder / LABELS} has {len(labels)} labels from {labels.min()} to {labels.max()} for "
            f"{count} images of {classes} classes: {MEND}"
        )
    path, shape = folder / IMAGE_FILES[manifest["encoding"]], (count, side, side, 3)
    if manifest["encoding"] == "jpeg":
        images = JpegRecords(path, shape)
    else:
        # The images are the file's last bytes, whatever its header has become.
        images = RawRecords(path, shape, header=path.stat().st_size - math.prod(shape))
    names = folder / NAMES if f"{name}/{NAMES}" in manifest["files"] else None
    return Split(images, labels, checksums=checksums, names=names)


def image_names(split: Split) -> list[str]:
    """Returns the names of the images' original files, or their positions if none are stored."""
    if split.names is None:
        return [str(index) for index in range(len(split))]
    names = json.loads(split.names.read_text(encoding="utf-8"))
    return names if split.rows is None else [names[row] for row in split.rows]
