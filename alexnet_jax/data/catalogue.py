"""The data set that `config.data` names: the checks before it is opened, and its validation split.

Nothing in this file imports TensorFlow.
"""

import difflib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import embedded, store
from alexnet_jax.data.store import Dataset, Split
from alexnet_jax.errors import UserError

EMBEDDED = ("digits", "synthetic")
NEEDS = {  # content of --source=DIR, for data sets that cannot be downloaded
    "imagenet2012": ", DIR holding ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar",
    "folder": ", DIR holding train/CLASS/*.jpg and val/ or test/, or CLASS/*.jpg alone",
}


@dataclass(frozen=True)
class Summary:
    """Facts about a data set that are known without reading its images."""

    class_names: tuple[str, ...]
    sizes: dict[str, int]  # images in each split
    image_size: int  # pixels, side of the stored images
    checksum: str = ""  # of a store's content, as in store.Dataset; "" if the settings decide it

    @property
    def num_classes(self) -> int:
        """Returns the number of classes."""
        return len(self.class_names)


def open_dataset(data: ConfigDict) -> Dataset:
    """Opens the data set that config.data names, with a validation split.

    If the data set has none, the fraction data.val_fraction of 'train' becomes 'val', with the same
    images for every config.seed. With a fraction of 0 there is no 'val'. Raises UserError as
    check_available does.
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
    """Returns the facts about the data set that config.data names, without opening it."""
    if data.name == "digits":
        found = Summary(embedded.DIGITS_NAMES, embedded.digits_sizes(), data.image_size)
    elif data.name == "synthetic":
        sizes = dict.fromkeys(("train", "val", "test"), data.synthetic_images)
        names = embedded.synthetic_names(data.synthetic_classes)
        found = Summary(names, sizes, data.image_size)
    else:
        manifest = store.read_manifest(find_store(data))
        names, counts = tuple(manifest["class_names"]), dict(manifest["counts"])
        checksum = store.content_checksum(manifest)
        found = Summary(names, counts, manifest["image_size"], checksum)
    if "val" not in found.sizes and held_out(found.sizes["train"], data.val_fraction):
        found.sizes["val"] = held_out(found.sizes["train"], data.val_fraction)
        found.sizes["train"] -= found.sizes["val"]
    return found


def check_available(data: ConfigDict) -> None:
    """Raises UserError unless config.data names a data set that can be opened with its settings.

    Compares names, sizes and the manifest, and reads no image, so that it is quick. The values of
    single settings are checked by runs.rules, except the smallest size of the digits.
    """
    if data.name == "digits" and data.image_size < embedded.DIGITS_SIDE:
        raise UserError(f"data.image_size is {data.image_size}: the digits need 8 pixels or more")
    found = summary(data)
    if data.image_size != found.image_size:
        raise UserError(
            f"data.image_size is {data.image_size}, but the store in {store_directory(data)} has "
            f"images of {found.image_size} pixels: set data.image_size={found.image_size}, or "
            f"prepare another store with --dir and --image_size={data.image_size}"
        )
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
    """Returns the size of the validation split held out of num_images: 0, or at least 1 image.

    It is 0 only for a fraction of 0.
    """
    return max(1, round(num_images * fraction)) if fraction else 0


def hold_out(split: Split, fraction: float) -> tuple[Split, Split]:
    """Divides a training split into training and validation images, by a fixed random choice."""
    # Seed 0, not config.seed: runs with other seeds are compared on the same images.
    order = np.random.default_rng(0).permutation(len(split))
    count = held_out(len(split), fraction)
    # Sorted, because Split.rows are ascending.
    return take_rows(split, np.sort(order[count:])), take_rows(split, np.sort(order[:count]))


def take_rows(split: Split, rows: np.ndarray) -> Split:
    """Returns the subset of a complete split with these row indices."""
    return replace(split, labels=np.asarray(split.labels)[rows], rows=rows)


def store_directory(data: ConfigDict) -> Path:
    """Returns the folder of the store of config.data: data.dir, or data/<name>."""
    return Path(data.dir) if data.dir else Path("data", data.name)


def find_store(data: ConfigDict) -> Path:
    """Returns the folder of the complete store of config.data.

    Raises UserError if the folder has no complete store, or that of another data set.
    """
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
    if data.name == "folder" and holds_folders(directory):
        raise UserError(
            f"{directory} is no store: if it holds your pictures, write a store of them with "
            f"`python -m alexnet_jax.prepare --name=folder --source={directory} --dir=STORE`, and "
            "give --config.data.dir=STORE"
        )
    raise UserError(
        f"no store of {data.name} in {directory}: set data.dir, or write it with "
        f"`{prepare_command(data)}`{NEEDS.get(data.name, '')}"
    )


def holds_folders(path: Path) -> bool:
    """True if the path is a folder that holds folders, such as one of pictures by class."""
    return path.is_dir() and any(entry.is_dir() for entry in path.iterdir())


def prepare_command(data: ConfigDict) -> str:
    """Returns the command that writes the store of config.data."""
    source = " --source=DIR" if data.name in NEEDS else ""
    target = f" --dir={data.dir}" if data.dir else ""
    return f"python -m alexnet_jax.prepare --name={data.name}{source}{target}"


def check_name(name: str) -> None:
    """Raises UserError unless the name is one of ours or a data set of TFDS."""
    known = [*EMBEDDED, "folder"]
    if name in known:
        return
    import tensorflow_datasets as tfds  # only now, because it takes seconds

    known += tfds.list_builders(with_community_datasets=False)
    # TFDS takes name/config:version; its list has the bare names.
    if name.split("/")[0].split(":")[0] in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    raise UserError(
        f"unknown data set {name!r}{meant}: give digits, synthetic, folder or the name of a TFDS "
        "data set such as imagenet2012 or cifar10"
    )
