"""A folder of images: DIR/train/CLASS/*.jpg, DIR/val/CLASS/*.jpg, and DIR/test/CLASS/*.jpg."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from alexnet_jax.data.images import JPEG_START, PNG_START, BadImageError, header_size
from alexnet_jax.errors import UserError
from alexnet_jax.prepare.fingerprint import fingerprint_files
from alexnet_jax.prepare.originals.base import Original, OriginalImage

SUFFIXES = (".jpg", ".jpeg", ".png")  # in any case
HEADER_BYTES = 1 << 16


Splits = dict[str, dict[str, list[Path]]]  # split: class: files


def open_folder(source: Path) -> Original:
    """Opens a folder of images, with classes and files in the order of their names.

    Raises UserError as find_splits does.
    """
    splits = find_splits(source)
    class_names = tuple(splits["train"])

    def read(split: str) -> Iterator[OriginalImage]:
        for class_name, paths in splits[split].items():
            label = class_names.index(class_name)
            for path in paths:
                name = str(path.relative_to(source))
                yield OriginalImage(name, path.read_bytes(), label)

    return Original(
        class_names,
        {name: sum(map(len, classes.values())) for name, classes in splits.items()},
        read,
        common_size([path for classes in splits.values() for path in files_of(classes)]),
        str(source.resolve()),
        fingerprints_of(source, splits),
    )


def fingerprints(source: Path) -> dict[str, str]:
    """Returns the fingerprints of the splits of a folder; raises UserError as find_splits does."""
    return fingerprints_of(source, find_splits(source))


def fingerprints_of(source: Path, splits: Splits) -> dict[str, str]:
    """Returns the fingerprint of the files of each split."""
    return {name: fingerprint_files(source, files_of(classes)) for name, classes in splits.items()}


def files_of(classes: dict[str, list[Path]]) -> list[Path]:
    """Returns all files of a split."""
    return [path for paths in classes.values() for path in paths]


def find_splits(source: Path) -> Splits:
    """Finds the image files of a folder.

    Raises UserError: no train folder, fewer than two classes, a class without images, a split with
    a class that is not in train.
    """
    splits = {name: find_images(source / name) for name in ("train", "val", "test")}
    splits = {name: classes for name, classes in splits.items() if classes is not None}
    if "train" not in splits:
        raise UserError(f"{source} has no folder `train`: sort the images as train/CLASS/*.jpg")
    check_classes(source, tuple(splits["train"]), splits)
    return splits


def common_size(paths: list[Path]) -> tuple[int, int] | None:
    """Height and width if all these images share them, else None.

    Stops at the first image that differs; files that are not images do not count.
    """
    found = set()
    for path in paths:
        with contextlib.suppress(BadImageError):
            found.add(stated_size(path))
        if len(found) > 1:
            return None
    return found.pop() if found else None


def stated_size(path: Path) -> tuple[int, int]:
    """Height and width in the header of an image file, of which mostly only the start is read."""
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES)
        try:
            return header_size(start)
        except BadImageError:
            return header_size(start + file.read())


def check_starts(source: Path) -> None:
    """Raises UserError for the first file that is called like an image and does not start like one.

    Reads a few bytes of each file, and no image.
    """
    for path in sorted(source.glob("*/*/*")):
        if is_image(path):
            with path.open("rb") as file:
                start = file.read(len(PNG_START))
            if not start.startswith((JPEG_START, PNG_START)):
                raise UserError(
                    f"{path} is neither a JPEG nor a PNG: remove it, or leave such files out with "
                    "--on_bad_image=skip"
                )


def find_images(folder: Path) -> dict[str, list[Path]] | None:
    """The image files of each class of one split, sorted; None where there is no such folder."""
    if not folder.is_dir():
        return None
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    return {entry.name: sorted(filter(is_image, entry.iterdir())) for entry in classes}


def is_image(path: Path) -> bool:
    """Whether a file is called like an image; hidden files are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def check_classes(
    source: Path, class_names: tuple[str, ...], splits: dict[str, dict[str, list[Path]]]
) -> None:
    """Raises UserError for classes from which nothing can be learned."""
    if len(class_names) < 2:
        raise UserError(
            f"{source / 'train'} has {len(class_names)} class folders: at least 2 are needed, as "
            "train/CLASS/*.jpg"
        )
    for split, classes in splits.items():
        for class_name, paths in classes.items():
            if class_name not in class_names:
                raise UserError(f"class {class_name!r} is in {source / split} but not in train")
            if not paths and split == "train":
                raise UserError(
                    f"{source / split / class_name} has no images: put some there (.jpg, .jpeg "
                    "or .png) or remove the folder"
                )
        if not any(classes.values()):
            raise UserError(f"{source / split} has no images: put some there or remove it")
