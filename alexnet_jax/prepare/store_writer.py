"""The writer of the store that `data.store` describes: split by split, so that it can be resumed.

While a store is being written, DIR/partial.json holds the request that it was begun with. Each
finished split has a split.json with a fingerprint of everything that it was made from. When the
command is run again, a split with the same fingerprint is kept, and any other is written again.
The manifest is written last. Then partial.json and the split.json files are removed.
"""

import functools
import json
import shutil
from pathlib import Path

import numpy as np
from tqdm import tqdm

from alexnet_jax.data import image_statistics
from alexnet_jax.data.store import (
    CHECKSUMS,
    IMAGE_FILES,
    LABELS,
    MANIFEST,
    NAMES,
    ORIGIN,
    PARTIAL,
    SELF,
    VERSION,
    digest_of,
)
from alexnet_jax.data.threads import THREADS, in_order
from alexnet_jax.disk.checksums import of_file
from alexnet_jax.disk.durable import to_disk, write_text
from alexnet_jax.environment import installed_versions
from alexnet_jax.errors import UserError
from alexnet_jax.prepare import store_files
from alexnet_jax.prepare.fingerprint import fingerprint_json
from alexnet_jax.prepare.form import Form
from alexnet_jax.prepare.originals.base import Original
from alexnet_jax.prepare.stored_image import StoredImage, to_stored

SPLIT_DONE = "split.json"
CLASS_NAMES = "labels.txt"
SPLITS = ("train", "val", "test")
# Packages that determine the pixels. Their versions are recorded if they are installed: only
# TFDS's data sets need the last one.
CONVERTERS = ("numpy", "pillow", "tensorflow-datasets")
AHEAD = 8  # images in progress for each thread


def begin(directory: Path, request: dict) -> None:
    """Creates the folder of a store, and records the request that it is written for."""
    directory.mkdir(parents=True, exist_ok=True)
    store_files.write_json(directory / PARTIAL, request)


def write_store(directory: Path, name: str, original: Original, form: Form) -> dict:
    """Writes all unfinished splits, then the manifest; returns the manifest.

    Raises UserError for an image that cannot be used, unless form.skip_bad, and for a split without
    a usable image.
    """
    remove_other_splits(directory, original)
    for split in original.sizes:
        if not is_finished(directory / split, made_from(original, split, form)):
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
        ORIGIN: origin(directory, original),
    }
    # Last, because a folder with a manifest counts as a complete store.
    store_files.write_json(directory / MANIFEST, manifest | {SELF: digest_of(manifest)})
    # Only now: a folder with neither partial.json nor a manifest is refused as no store.
    tidy(directory)
    return manifest


def tidy(directory: Path) -> None:
    """Removes the files that are only needed while a store is being written."""
    for path in [directory / PARTIAL, *directory.glob(f"*/{SPLIT_DONE}")]:
        path.unlink(missing_ok=True)


def origin(directory: Path, original: Original) -> dict:
    """Returns the manifest's record of where the images come from and what converted them."""
    return {
        "request": store_files.read_json(directory / PARTIAL),
        "source": original.source,
        "fingerprints": original.fingerprints,
        "versions": installed_versions(CONVERTERS),
    }


def made_from(original: Original, split: str, form: Form) -> str:
    """Returns a fingerprint of everything that the stored split depends on.

    The class names are part of it, because labels are positions in their order.
    """
    files = original.source, original.fingerprints.get(split, "")
    return fingerprint_json([*files, original.class_names, form.side, form.resize, form.encoding])


def is_finished(folder: Path, source: str) -> bool:
    """True if a split has been written completely, from the same originals (`made_from`)."""
    # A stopped attempt has no SPLIT_DONE. Earlier versions of this program wrote fewer files.
    if not all((folder / file).is_file() for file in (SPLIT_DONE, CHECKSUMS, NAMES)):
        return False
    return store_files.read_json(folder / SPLIT_DONE).get("made_from") == source


def remove_other_splits(directory: Path, original: Original) -> None:
    """Removes splits of an earlier attempt that the original no longer has."""
    for split in SPLITS:
        if split not in original.sizes:
            shutil.rmtree(directory / split, ignore_errors=True)


def write_split(directory: Path, original: Original, split: str, form: Form) -> None:
    """Writes images and labels of one split; for 'train' the statistics as well.

    The statistics are computed from the pixels before JPEG encoding.
    """
    folder = directory / split
    # From the start: the last record of a stopped attempt may be half-written.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    labels, checksums, names, skipped = [], [], [], []
    sums = image_statistics.no_sums(form.side)
    size, classes = original.sizes[split], len(original.class_names)
    work = functools.partial(
        to_stored,
        form=form,
        classes=classes,
        upright=original.upright,
        with_products=split == "train",
    )
    with store_files.IMAGE_WRITERS[form.encoding](folder, size, form.side) as write:
        # Threads, not processes: Pillow and its JPEG encoder release Python's lock.
        results = in_order(work, original.read(split), AHEAD * THREADS)
        for image in tqdm(results, split, size, unit=" images", mininterval=1):
            if image.fault:
                skipped.append(refuse(image, form.skip_bad))
                continue
            write(image.record)
            labels.append(image.label)
            checksums.append(image.checksum)
            names.append(image.name)
            if image.products is not None:
                sums = image_statistics.add_image(sums, image.pixels, image.products)
    if not labels:
        raise UserError(f"not one image of the {split} split can be used")
    store_files.write_array(folder / LABELS, np.array(labels, np.int32))
    store_files.write_array(folder / CHECKSUMS, np.array(checksums, np.uint32))
    write_text(folder / NAMES, json.dumps(names, ensure_ascii=False))
    if split == "train":
        write_statistics(directory, sums)
    done = {"images": len(labels), "skipped": skipped}
    done["made_from"] = made_from(original, split, form)
    # Last: this file marks the split as finished.
    store_files.write_json(folder / SPLIT_DONE, done)


def refuse(image: StoredImage, skip_bad: bool) -> dict[str, str]:
    """Returns the manifest's entry for a skipped image; raises UserError without skip_bad."""
    if not skip_bad:
        raise UserError(
            f"{image.name} {image.fault}: mend it, or leave such images out with "
            "--on_bad_image=skip"
        )
    return {"name": image.name, "fault": image.fault}


def write_statistics(directory: Path, sums: image_statistics.Sums) -> None:
    """Writes mean_image.npy and colour.npz."""
    colour = image_statistics.colour_components(sums)
    store_files.write_array(directory / "mean_image.npy", image_statistics.mean_image(sums))
    with (directory / "colour.npz").open("wb") as file:
        np.savez(file, stdevs=colour.stdevs, components=colour.components)
        to_disk(file)


def checksums(directory: Path, encoding: str, splits: list[str]) -> dict[str, dict]:
    """Returns size and SHA-256 of every file of the store except the manifest."""
    names = [CLASS_NAMES, "mean_image.npy", "colour.npz"]
    of_a_split = (LABELS, CHECKSUMS, NAMES, IMAGE_FILES[encoding])
    names += [f"{split}/{file}" for split in splits for file in of_a_split]
    named = tqdm(names, "checksums", unit=" files", mininterval=1)
    return {name: of_file(directory / name) for name in named}
