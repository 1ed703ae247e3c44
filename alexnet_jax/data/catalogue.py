"""From `config.data` to a data set: which one, whether it is there, and its validation split.

Nothing here imports TensorFlow.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import embedded, store
from alexnet_jax.data.store import Dataset, Split
from alexnet_jax.errors import UserError

EMBEDDED = ("digits", "synthetic")
NEEDS = {  # what has to lie in DIR, for data sets that cannot be downloaded
    "imagenet2012": ", DIR holding ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar",
    "folder": ", DIR holding train/CLASS/*.jpg and val/CLASS/*.jpg",
}


@dataclass(frozen=True)
class Summary:
    """What is known of a data set without reading its images."""

    num_classes: int
    sizes: dict[str, int]  # images in each split
    image_size: int  # pixels, side of the stored images


def open_dataset(data: ConfigDict) -> Dataset:
    """The data set that config.data names, with a validation split.

    Where the data set has none, the fraction data.val_fraction of 'train' becomes 'val': always the
    same images, whatever config.seed is; 0 = no 'val'. Raises UserError as check_available does.
    """
    check_available(data)
    if data.name == "digits":
        dataset = embedded.digits(data.image_size)
    elif data.name == "synthetic":
        dataset = embedded.synthetic(data.synthetic_images, data.synthetic_classes, data.image_size)
    else:
        dataset = store.open_store(store_directory(data))
    if "val" not in dataset.splits and held_out(len(dataset.splits["train"]), data.val_fraction):
        train, val = hold_out(dataset.splits["train"], data.val_fraction)
        dataset.splits.update(train=train, val=val)
    return dataset


def summary(data: ConfigDict) -> Summary:
    """Number of classes and images of the data set that config.data names, without reading it."""
    if data.name == "digits":
        found = Summary(10, digits_sizes(), data.image_size)
    elif data.name == "synthetic":
        sizes = dict.fromkeys(("train", "val", "test"), data.synthetic_images)
        found = Summary(data.synthetic_classes, sizes, data.image_size)
    else:
        manifest = store.read_manifest(find_store(data))
        found = Summary(
            len(manifest["class_names"]), dict(manifest["counts"]), manifest["image_size"]
        )
    if "val" not in found.sizes and held_out(found.sizes["train"], data.val_fraction):
        found.sizes["val"] = held_out(found.sizes["train"], data.val_fraction)
        found.sizes["train"] -= found.sizes["val"]
    return found


def digits_sizes() -> dict[str, int]:
    """Images in each split of the digits before a validation split is taken."""
    test = embedded.DIGITS_TEST
    return {"train": embedded.DIGITS_IMAGES - test, "test": test}


def check_available(data: ConfigDict) -> None:
    """Raises UserError unless config.data names a data set that can be opened as it says.

    Quick: looks at names, sizes and the manifest, never at images. What a value may be whatever the
    data set, `settings.check` has looked at.
    """
    if data.name == "digits" and data.image_size < embedded.DIGITS_SIDE:
        raise UserError(f"data.image_size is {data.image_size}: the digits need 8 pixels or more")
    found = summary(data)
    if data.image_size != found.image_size:
        raise UserError(
            f"data.image_size is {data.image_size}, but the store in {store_directory(data)} has "
            f"images of {found.image_size} pixels: set data.image_size={found.image_size}"
        )
    check_crop(data)
    if found.sizes["train"] == 0:
        raise UserError(f"data.val_fraction {data.val_fraction} leaves no training image: lower it")


def check_crop(data: ConfigDict) -> None:
    """Raises UserError if the crop is larger than the stored images."""
    if data.crop_size > data.image_size:
        raise UserError(
            f"data.crop_size {data.crop_size} is larger than the stored images, data.image_size "
            f"{data.image_size}: lower the crop or take larger images"
        )


def held_out(num_images: int, fraction: float) -> int:
    """Images of the training set that become the validation split; at least 1 unless fraction=0."""
    return max(1, round(num_images * fraction)) if fraction else 0


def hold_out(split: Split, fraction: float) -> tuple[Split, Split]:
    """The training split without the validation images, and those: a fixed random choice."""
    order = np.random.default_rng(0).permutation(len(split))
    count = held_out(len(split), fraction)
    return take_rows(split, np.sort(order[count:])), take_rows(split, np.sort(order[:count]))


def take_rows(split: Split, rows: np.ndarray) -> Split:
    """The part of a whole split that these rows are."""
    return Split(split.images, np.asarray(split.labels)[rows], rows, split.checksums)


def store_directory(data: ConfigDict) -> Path:
    """Where the store of config.data lies: data.dir, or data/<name>."""
    return Path(data.dir) if data.dir else Path("data", data.name)


def find_store(data: ConfigDict) -> Path:
    """The folder of the complete store; UserError where there is none, or of another data set."""
    directory = store_directory(data)
    if store.is_complete(directory):
        name = store.read_manifest(directory)["name"]
        if name != data.name:
            raise UserError(
                f"the store in {directory} holds {name}, not {data.name}: set data.name={name} or "
                "another data.dir"
            )
        return directory
    check_name(data.name)
    if (directory / store.PARTIAL).is_file():
        raise UserError(
            f"the store in {directory} is half-written: run the same `python -m "
            f"alexnet_jax.prepare --name={data.name} …` again, which completes it"
        )
    raise UserError(
        f"no store of {data.name} in {directory}: set data.dir, or write it with "
        f"`{prepare_command(data)}`{NEEDS.get(data.name, '')}"
    )


def prepare_command(data: ConfigDict) -> str:
    """The command that writes the store of config.data."""
    source = " --source=DIR" if data.name in NEEDS else ""
    target = f" --dir={data.dir}" if data.dir else ""
    return f"python -m alexnet_jax.prepare --name={data.name}{source}{target}"


def check_name(name: str) -> None:
    """Raises UserError unless name is one of ours or a data set that TFDS knows."""
    import tensorflow_datasets as tfds

    known = [*EMBEDDED, "folder", *tfds.list_builders(with_community_datasets=False)]
    if name.split("/")[0].split(":")[0] in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    raise UserError(
        f"unknown data set {name!r}{meant}: give digits, synthetic, folder or the name of a TFDS "
        "data set such as imagenet2012 or cifar10"
    )
