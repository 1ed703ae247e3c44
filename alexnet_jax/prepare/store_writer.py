"""Writes the store that `store` describes, split by split; a stopped run can be taken up again.

While a store is being written, DIR/partial.json holds the settings it was begun with, and a split
that is finished has a split.json. The manifest comes last and these files then go.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from isal.isal_zlib import crc32
from tqdm import tqdm

from alexnet_jax.data import images, statistics, store_files
from alexnet_jax.data.store import (
    CHECKSUMS,
    IMAGE_FILES,
    LABELS,
    MANIFEST,
    PARTIAL,
    SELF,
    VERSION,
    digest_of,
)
from alexnet_jax.data.threads import THREADS, in_order
from alexnet_jax.disk.checksums import of_file
from alexnet_jax.disk.durable import to_disk, write_text
from alexnet_jax.errors import UserError
from alexnet_jax.prepare.originals.base import Original, OriginalImage

SPLIT_DONE = "split.json"
CLASS_NAMES = "labels.txt"
AHEAD = 8  # images waiting for each thread


@dataclass(frozen=True)
class Form:
    """How images are stored.

    side: pixels. resize: shorter side to `side`, then the centre; else images must have that size.
    encoding: raw or jpeg. skip_bad: leave out images that cannot be used instead of stopping.
    """

    side: int
    resize: bool
    encoding: str
    skip_bad: bool


@dataclass(frozen=True)
class StoredImage:
    """What becomes of an original: pixels, record and its CRC-32, colour products; or its fault."""

    name: str
    label: int
    pixels: np.ndarray | None = None
    record: bytes | memoryview = b""
    checksum: int = 0
    products: np.ndarray | None = None
    fault: str = ""


def begin(directory: Path, settings: dict) -> None:
    """Makes the folder of a store that is to be written with these settings.

    Raises UserError where that is not possible.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        store_files.write_json(directory / PARTIAL, settings)
    except OSError as error:
        raise UserError(
            f"{directory} cannot be written ({error.strerror}): give another --dir"
        ) from error


def write_store(directory: Path, name: str, original: Original, form: Form) -> dict:
    """Writes all splits that are not finished, then the manifest, which it returns.

    Raises UserError for an image that cannot be used (unless form.skip_bad), and if none can.
    """
    for split, size in original.sizes.items():
        if not is_finished(directory / split, size):
            write_split(directory, original, split, form)
    done = {
        split: store_files.read_json(directory / split / SPLIT_DONE) for split in original.sizes
    }
    labels = "".join(f"{class_name}\n" for class_name in original.class_names)
    write_text(directory / CLASS_NAMES, labels)
    manifest = {
        "version": VERSION,
        "name": name,
        "encoding": form.encoding,
        "image_size": form.side,
        "counts": {split: entry["images"] for split, entry in done.items()},
        "class_names": list(original.class_names),
        "skipped": {split: x["skipped"] for split, x in done.items() if x["skipped"]},
        "files": checksums(directory, form.encoding, list(done)),
    }
    store_files.write_json(directory / MANIFEST, manifest | {SELF: digest_of(manifest)})
    tidy(directory)
    return manifest


def tidy(directory: Path) -> None:
    """Removes what a complete store does not need."""
    for path in [directory / PARTIAL, *directory.glob(f"*/{SPLIT_DONE}")]:
        path.unlink(missing_ok=True)


def is_finished(folder: Path, size: int) -> bool:
    """Whether a split of `size` originals has been written to its end."""
    if not (folder / SPLIT_DONE).is_file() or not (folder / CHECKSUMS).is_file():
        return False
    done = store_files.read_json(folder / SPLIT_DONE)
    return done["images"] + len(done["skipped"]) == size


def write_split(directory: Path, original: Original, split: str, form: Form) -> None:
    """Writes images and labels of one split, and of 'train' the statistics.

    The statistics are of the pixels as they were before they became a JPEG.
    """
    folder = directory / split
    folder.mkdir(exist_ok=True)
    (folder / SPLIT_DONE).unlink(missing_ok=True)
    labels, checksums, skipped, sums = [], [], [], statistics.no_sums(form.side)
    size, classes = original.sizes[split], len(original.class_names)
    work = functools.partial(to_stored, form=form, classes=classes, with_products=split == "train")
    with store_files.IMAGE_WRITERS[form.encoding](folder, size, form.side) as write:
        results = in_order(work, original.read(split), AHEAD * THREADS)
        for image in tqdm(results, split, size, unit=" images", mininterval=1):
            if image.fault:
                skipped.append(refuse(image, form.skip_bad))
                continue
            write(image.record)
            labels.append(image.label)
            checksums.append(image.checksum)
            if image.products is not None:
                sums = statistics.add_image(sums, image.pixels, image.products)
    if not labels:
        raise UserError(f"not one image of the {split} split can be used")
    store_files.write_array(folder / LABELS, np.array(labels, np.int32))
    store_files.write_array(folder / CHECKSUMS, np.array(checksums, np.uint32))
    if split == "train":
        write_statistics(directory, sums)
    store_files.write_json(folder / SPLIT_DONE, {"images": len(labels), "skipped": skipped})


def refuse(image: StoredImage, skip_bad: bool) -> dict[str, str]:
    """The entry for an image that is left out; UserError if none may be."""
    if not skip_bad:
        raise UserError(
            f"{image.name} {image.fault}: mend it, or leave such images out with "
            "--on_bad_image=skip"
        )
    return {"name": image.name, "fault": image.fault}


def to_stored(
    original: OriginalImage, *, form: Form, classes: int, with_products: bool
) -> StoredImage:
    """Decodes, resizes and encodes one image; runs in several threads at once."""
    name, content = original.name, original.content
    try:
        if not 0 <= original.label < classes:
            raise images.BadImageError(f"has label {original.label} of {classes} classes")
        pixels = content if isinstance(content, np.ndarray) else images.decode(content)
        pixels = images.centre_square(pixels, form.side) if form.resize else pixels
        if pixels.shape != (form.side, form.side, 3):
            raise images.BadImageError(
                f"has {pixels.shape[0]} × {pixels.shape[1]} pixels and others {form.side} × "
                f"{form.side}; --image_size=256 makes them alike"
            )
    except images.BadImageError as error:
        return StoredImage(name, original.label, fault=str(error))
    pixels = np.ascontiguousarray(pixels)
    record = pixels.data if form.encoding == "raw" else images.encode_jpeg(pixels)
    products = statistics.colour_products(pixels) if with_products else None
    return StoredImage(name, original.label, pixels, record, crc32(record), products)


def write_statistics(directory: Path, sums: statistics.Sums) -> None:
    """Writes mean_image.npy and colour.npz."""
    colour = statistics.colour_components(sums)
    store_files.write_array(directory / "mean_image.npy", statistics.mean_image(sums))
    with (directory / "colour.npz").open("wb") as file:
        np.savez(file, stdevs=colour.stdevs, components=colour.components)
        to_disk(file)


def checksums(directory: Path, encoding: str, splits: list[str]) -> dict[str, dict]:
    """Size and SHA-256 of every file of the store but the manifest."""
    names = [CLASS_NAMES, "mean_image.npy", "colour.npz"]
    of_a_split = (LABELS, CHECKSUMS, IMAGE_FILES[encoding])
    names += [f"{split}/{file}" for split in splits for file in of_a_split]
    named = tqdm(names, "checksums", unit=" files", mininterval=1)
    return {name: of_file(directory / name) for name in named}
