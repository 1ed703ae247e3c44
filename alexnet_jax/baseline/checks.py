"""The checks before an experiment: flags, data and memory. Nothing is written or compiled."""

from pathlib import Path

import psutil
from ml_collections import ConfigDict

from alexnet_jax.baseline import descriptors, fisher, hog
from alexnet_jax.baseline.experiment import Settings
from alexnet_jax.cli.checks import check_writable
from alexnet_jax.data import Summary
from alexnet_jax.errors import UserError

SPLITS = ("train", "val", "test")


def check_splits(data: ConfigDict, found: Summary) -> None:
    """Raises UserError unless the data set has images to learn from, to choose on and to test."""
    missing = [name for name in SPLITS if name not in found.sizes]
    if "val" in missing:
        raise UserError("data.val_fraction=0 leaves no validation split; set it above 0")
    if missing:
        raise UserError(
            f"{data.name} has no labelled test split, only {', '.join(found.sizes)}: lay the test "
            "images out as DIR/test/CLASS/ and prepare it as --name=folder"
        )


def check_method(settings: Settings, data: ConfigDict, found: Summary) -> None:
    """Raises UserError unless the method's windows fit into the images, and its flags agree."""
    smallest = {"hog": hog.SMALLEST, "fisher": descriptors.SMALLEST, "kmeans": settings.form.patch}
    if data.image_size < smallest[settings.method]:
        raise UserError(
            f"data.image_size is {data.image_size}: --method={settings.method} needs "
            f"{smallest[settings.method]} pixels or more"
        )
    if settings.method == "kmeans":
        check_kmeans(settings, data.image_size)
    if settings.method == "fisher":
        check_fisher(settings, data.image_size, images_used(settings, found))


def check_kmeans(settings: Settings, image_size: int) -> None:
    """Raises UserError unless each cell has a patch and each centre can have one."""
    form, along = settings.form, settings.form.positions(image_size)
    if along < form.pool:
        raise UserError(
            f"--pool={form.pool} needs as many patches along each side of an image, which has "
            f"{along}: lower --pool or --stride"
        )
    if settings.patches < form.centres:
        raise UserError(
            f"--centres={form.centres} needs as many patches or more; raise --patches from "
            f"{settings.patches}"
        )


def check_fisher(settings: Settings, image_size: int, images: int) -> None:
    """Raises UserError unless there are descriptors for all components and Gaussians."""
    needed = max(settings.gaussians, fisher.COMPONENTS)
    available = min(images, fisher.LEARN_IMAGES) * len(descriptors.places(image_size))
    if min(available, fisher.LEARN_DESCRIPTORS) < needed:
        raise UserError(
            f"--gaussians={settings.gaussians} needs {needed} descriptors, and there are "
            f"{available}: lower it, or raise --train_images"
        )


def images_used(settings: Settings, found: Summary) -> int:
    """Returns the number of training images that are used."""
    return min(found.sizes["train"], settings.train_images or found.sizes["train"])


def check_memory(settings: Settings, found: Summary) -> None:
    """Raises UserError if the features of the images do not fit into the free memory."""
    # The test split's features are computed when those of the other two are freed.
    images = max(images_used(settings, found) + found.sizes["val"], found.sizes["test"])
    width = settings.features + 1  # with the column of ones
    # Bytes of float32: the features, their Gram matrix and its Cholesky root.
    needed = 4 * width * (images + 2 * width)
    free = psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"{settings.features} features of {images} images take {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free: lower --train_images or the number of features"
        )


def check_output(folder: Path) -> None:
    """Raises UserError unless the folder can be written to and holds no record."""
    check_writable(folder, "output")
    if (folder / "result.json").exists():
        raise UserError(f"--output={folder} holds a record already; name another folder")
