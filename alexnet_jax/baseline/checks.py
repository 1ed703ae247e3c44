"""The checks before an experiment: flags, data and memory. Nothing is written or compiled."""

from pathlib import Path

import psutil
from ml_collections import ConfigDict

from alexnet_jax.baseline import hog
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


def check_sizes(settings: Settings, image_size: int) -> None:
    """Raises UserError unless the method's windows fit into images of this side, in pixels."""
    form = settings.form
    if settings.method == "hog":
        if image_size < hog.SMALLEST:
            raise UserError(
                f"data.image_size is {image_size}: hog needs {hog.SMALLEST} pixels or more"
            )
    elif form.patch > image_size:
        raise UserError(f"--patch={form.patch} is larger than data.image_size={image_size}")
    elif form.positions(image_size) < form.pool:
        raise UserError(
            f"--pool={form.pool} needs as many patches along each side of an image, which has "
            f"{form.positions(image_size)}: lower --pool or --stride"
        )
    elif settings.patches < form.centres:
        raise UserError(
            f"--centres={form.centres} needs as many patches or more; raise --patches from "
            f"{settings.patches}"
        )


def check_memory(settings: Settings, found: Summary) -> None:
    """Raises UserError if the features of the images do not fit into the free memory."""
    train, val, test = (found.sizes[name] for name in SPLITS)
    images = max(min(train, settings.train_images or train) + val, test)
    width = settings.features + 1
    needed = 4 * width * (images + 2 * width)  # the features, their products and the Cholesky root
    free = psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"{settings.features} features of {images} images take {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free: set --train_images, or lower --centres or --pool"
        )


def check_output(folder: Path) -> None:
    """Raises UserError unless the folder can be written to and holds no record."""
    check_writable(folder, "output")
    if (folder / "result.json").exists():
        raise UserError(f"--output={folder} holds a record already; name another folder")
