"""The stores of Tiny-ImageNet behind results/: which of its classes and pictures each one has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alexnet_jax.errors import UserError
from alexnet_jax.prepare.originals.folder_layout import read_layout

TINY_CLASSES = 200
Splits = Mapping[str, Mapping[str, Sequence[Path]]]  # split: {class: pictures}


@dataclass(frozen=True)
class Store:
    """A store to prepare from Tiny-ImageNet.

    Attributes:
      classes: slice of its 200 classes in the order of their names.
      pictures: number of training pictures of each class; None for all.
      size: side in pixels to which the pictures of 64 pixels are enlarged.
    """

    classes: slice = field(default_factory=lambda: slice(None))
    pictures: int | None = None
    size: int = 64


STORES = {
    "tiny64": Store(),
    "tiny64-50": Store(slice(None, None, 4)),
    "tiny64-10": Store(slice(None, None, 20)),
    "tiny64-first": Store(slice(0, None, 2)),
    "tiny64-second": Store(slice(1, None, 2)),
    "tiny64-50-a-class": Store(pictures=50),
    "tiny64-125-a-class": Store(pictures=125),
    "tiny64-250-a-class": Store(pictures=250),
    "tiny128": Store(size=128),
    "tiny256": Store(pictures=100, size=256),
}


def read_tiny_imagenet(source: str) -> Splits:
    """Returns the pictures of Tiny-ImageNet by split and class.

    The test split is the labelled one beside train, which its makers call val.

    Raises:
      UserError: the folder does not hold the data set.
    """
    try:
        splits = read_layout(Path(source)).splits
    except UserError as error:
        raise UserError(f"--tiny_imagenet={source}: {error}") from error
    labelled = splits.get("test") or splits.get("val")
    if len(splits["train"]) != TINY_CLASSES or not labelled:
        raise UserError(
            f"--tiny_imagenet={source} has {len(splits['train'])} classes in {', '.join(splits)}; "
            f"give the folder tiny-imagenet-200, with {TINY_CLASSES} classes in train and val"
        )
    return {"train": splits["train"], "test": labelled}


def link_pictures(splits: Splits, folder: Path, store: Store) -> None:
    """Makes a folder of symbolic links to the pictures of a store."""
    chosen = sorted(splits["train"])[store.classes]
    # The test split keeps all pictures: fewer would only make the error less certain.
    for split, pictures in (("train", store.pictures), ("test", None)):
        for name in chosen:
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for picture in splits[split][name][:pictures]:
                link = folder / split / name / picture.name
                if not link.exists():
                    # Absolute: a relative target would be looked for beside the link.
                    link.symlink_to(picture.resolve())
