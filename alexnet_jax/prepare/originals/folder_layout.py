"""The layout of a folder of images: the sub-folders of its training, validation and test images."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from alexnet_jax.errors import UserError
from alexnet_jax.prepare.access import unreadable_named
from alexnet_jax.prepare.originals import tiny_imagenet
from alexnet_jax.prepare.originals.class_folders import (
    ClassFolders,
    files_below,
    find_class_folders,
    suffixes,
    visible_entries,
)
from alexnet_jax.prepare.originals.names import readable

FOLDERS = {  # names of each split's folder, in upper or lower case
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
SPLIT_WORDS = {word for names in FOLDERS.values() for word in names}
SORTED_AS = "sort the images as train/CLASS/*.jpg"
MOST_NAMED = 5  # names in one line for the user


@dataclass(frozen=True)
class Layout:
    """The images of a folder by split and class, and notes for the user on how it was read."""

    splits: dict[str, dict[str, list[Path]]]
    notes: tuple[str, ...]

    def files(self, split: str) -> list[Path]:
        """Returns all images of a split, class by class."""
        return [path for paths in self.splits[split].values() for path in paths]


def read_layout(source: Path) -> Layout:
    """Finds the images of a folder: train/CLASS/*.jpg, val/… and test/…, or CLASS/*.jpg alone.

    Raises:
      UserError: no class folders, fewer than two classes, a class without images, a class that is
        not in train, or two folders for one split.
    """
    if not source.is_dir():
        raise UserError(f"{source} is no folder: give one with train/CLASS/*.jpg")
    with unreadable_named():
        folders = split_folders(source)
        found = {split: read_split(split, folder) for split, folder in folders.items()}
        if not folders:
            found["train"] = read_one_level(source)
        notes = [*folder_notes(source, folders, found), *file_notes(found.values())]
    if has_unlabelled_test(folders, found):
        del found["test"]
        notes.append(f"{folders['test'].name} is not read: it has no labels")
    splits = {split: x.classes for split, x in found.items()}
    # Without folders for the splits, the training images lie in `source` itself.
    check_classes({"train": source, **folders}, splits)
    return Layout(splits, tuple(notes))


def split_folders(source: Path) -> dict[str, Path]:
    """Returns the folder of each split; empty if no folder in `source` is called like a split.

    Raises UserError for two folders of one split, and for other splits without 'train'.
    """
    entries = [path for path in visible_entries(source) if path.is_dir()]
    found = {}
    for split, names in FOLDERS.items():
        folders = [path for path in entries if path.name.lower() in names]
        if len(folders) > 1:
            both = " and ".join(path.name for path in folders)
            raise UserError(f"{source} has {both}, which are both {split}: leave one of them there")
        if folders:
            found[split] = folders[0]
    if found and "train" not in found:
        raise UserError(f"{source} has no folder `train` beside {listed(found)}: {SORTED_AS}")
    return found


def read_split(split: str, folder: Path) -> ClassFolders:
    """Finds the images of one split; raises UserError if they have no class folders."""
    # Tiny-ImageNet has all validation images in one folder, and their classes in a text file.
    if split == "val" and tiny_imagenet.is_annotated(folder):
        return tiny_imagenet.read_annotated(folder)
    found = find_class_folders(folder)
    if found.loose and not any(found.classes.values()):
        raise UserError(
            f"{folder} holds {in_words(len(found.loose))}, but no class folders: sort them as "
            f"{folder.name}/CLASS/*.jpg, or move the folder away if there are no labels"
        )
    return found


def read_one_level(source: Path) -> ClassFolders:
    """Finds the images of a folder that has class folders and no splits.

    Raises UserError if its folders do not seem to be classes.
    """
    found = find_class_folders(source)
    if not any(found.classes.values()):
        loose = f", but {in_words(len(found.loose))} without a class" if found.loose else ""
        others = f" and no images{only_others(found.others)}" if found.others else ""
        raise UserError(f"{source} has no folder `train`{loose}{others}: {SORTED_AS}")
    if len(found.classes) == 1:
        only = source / next(iter(found.classes))
        raise UserError(
            f"{source} has no folder `train` and a single other folder, {only.name}: {SORTED_AS}, "
            f"or give --source={only} if the classes lie there"
        )
    for name, paths in found.classes.items():
        inner = inner_folders(source, paths)
        # photos_train/CLASS/*.jpg would otherwise be one class of the name photos_train.
        if inner and SPLIT_WORDS & words_of(name):
            raise UserError(
                f"{source / name} seems to hold a split, not a class: call it train, val or test"
            )
        # The test pictures of CLASS/test/*.jpg would otherwise be trained on.
        if inner & SPLIT_WORDS:
            raise UserError(
                f"{source / name} holds {' and '.join(sorted(inner & SPLIT_WORDS))}, which seem to "
                f"be splits: {SORTED_AS}, or give --source={source / name} if they hold classes"
            )
    return found


def inner_folders(source: Path, paths: Iterable[Path]) -> set[str]:
    """Returns the names of the folders of source/CLASS/FOLDER/… that hold images, in lower case."""
    parts = (path.relative_to(source).parts for path in paths)
    return {folder.lower() for _, *folders, _ in parts for folder in folders[:1]}


def words_of(name: str) -> set[str]:
    """Returns the words of a folder's name in lower case: {"photos", "train"} of photos_train."""
    return set(re.split(r"[^a-z]+", name.lower()))


def has_unlabelled_test(folders: dict[str, Path], found: dict[str, ClassFolders]) -> bool:
    """True if the test images are Tiny-ImageNet's, whose labels are not published."""
    annotated = "val" in folders and tiny_imagenet.is_annotated(folders["val"])
    # The test split then has a single class folder: test/images/ itself.
    return annotated and "test" in found and [*found["test"].classes] == [tiny_imagenet.IMAGES]


def folder_notes(
    source: Path, folders: dict[str, Path], found: dict[str, ClassFolders]
) -> list[str]:
    """Returns notes on folders whose use is not plain from their names."""
    if not folders:
        classes = found["train"].classes
        return [f"no folder `train`: its folders {listed(classes)} are read as training classes"]
    notes = [f"{x.name} is read as {split}" for split, x in folders.items() if x.name != split]
    others = [
        path.name
        for path in visible_entries(source)
        if path.is_dir() and path not in folders.values()
    ]
    return notes + ([f"folders that are not read: {listed(others)}"] if others else [])


def file_notes(found: Iterable[ClassFolders]) -> list[str]:
    """Returns a note that counts the files that are not read, if there are any."""
    kinds = kinds_of(sum((x.others for x in found), Counter()))
    loose = sum(len(x.loose) for x in found)
    kinds += [f"{in_words(loose)} outside the class folders"] if loose else []
    return [f"files that are not read: {listed(kinds)}"] if kinds else []


def kinds_of(counts: Counter[str]) -> list[str]:
    """Returns the numbers of files by suffix in words, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [f"{count:,} {suffix or 'without a suffix'}" for suffix, count in ordered]


def only_others(others: Counter[str]) -> str:
    """Returns ", only 3 .heic" for the files of a folder without images; empty without files."""
    return f", only {listed(kinds_of(others))}" if others else ""


def in_words(count: int) -> str:
    """Returns a number of images in words."""
    return "1 image" if count == 1 else f"{count:,} images"


def listed(names: Iterable[str]) -> str:
    """Returns the first MOST_NAMED names with commas between, and the number of the others."""
    names = [readable(name) for name in names]
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def check_classes(folders: dict[str, Path], splits: dict[str, dict[str, list[Path]]]) -> None:
    """Raises UserError for classes from which nothing can be learned.

    Args:
      folders: the folder of each split, for the message.
      splits: the images by split and class.
    """
    if len(splits["train"]) < 2:
        raise UserError(
            f"{folders['train']} has {len(splits['train'])} class folders: at least 2 are needed, "
            "as train/CLASS/*.jpg"
        )
    for split, classes in splits.items():
        for name, paths in classes.items():
            if name not in splits["train"]:
                raise UserError(f"class {name!r} is in {folders[split]} but not in train")
            if not paths and split == "train":
                raise UserError(
                    f"{no_images(folders[split] / name)}: put some there (.jpg, .png, .webp, .tif, "
                    ".bmp or .ppm) or remove the folder"
                )
        if not any(classes.values()):
            raise UserError(f"{no_images(folders[split])}: put some there or remove it")


def no_images(folder: Path) -> str:
    """Says that a folder has no images, and which other files it has."""
    # A name that is not UTF-8 is shown as text and then leads nowhere.
    files = files_below(folder) if folder.is_dir() else ()
    return f"{folder} has no images{only_others(suffixes(files))}"
