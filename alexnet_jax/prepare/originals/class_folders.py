"""Image files sorted into class folders: CLASS/*.jpg, in sub-folders of a class too."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from alexnet_jax.errors import UserError
from alexnet_jax.prepare.originals.names import class_name, is_hidden

SUFFIXES = frozenset(  # in upper or lower case
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"]
)


@dataclass(frozen=True)
class ClassFolders:
    """The files of one folder of class folders.

    classes: image files by class, both in the order of their names.
    loose: images beside the class folders, which belong to no class.
    others: number of all other files, by suffix.
    """

    classes: dict[str, list[Path]] = field(default_factory=dict)
    loose: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def find_class_folders(folder: Path) -> ClassFolders:
    """Finds the images below a folder; hidden files and folders do not count.

    Raises UserError for two classes of one name and for a link to nothing; OSError for what cannot
    be read.
    """
    found = ClassFolders()
    for entry in visible_entries(folder):
        if entry.is_dir():
            add_class(found, entry)
        elif is_image_name(entry):
            found.loose.append(entry)
    return found


def visible_entries(folder: Path) -> list[Path]:
    """Returns what lies in a folder without hidden entries, in the order of names.

    Raises UserError for a link to nothing, which may be a class or a split on a drive that is away.
    """
    # Sorted: the file system's own order differs between machines, and gives the labels.
    entries = sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    for path in entries:
        if path.is_symlink() and not path.suffix and not path.exists():
            raise UserError(f"{path} is a link to {path.readlink()}, which is missing: mend it")
    return entries


def add_class(found: ClassFolders, folder: Path) -> None:
    """Adds the images of one class to `found`, and counts the other files.

    Raises UserError for a name that is already taken or that has a line break.
    """
    name, files = class_name(folder.name), sorted(files_below(folder))
    # labels.txt has one name per line.
    if name.splitlines() != [name]:
        raise UserError(f"the class folder {name!r} has a line break in its name: rename it")
    # Two names of different bytes can be the same text, such as é in two ways.
    if name in found.classes:
        raise UserError(f"{folder.parent} has two folders of the name {name!r}: rename one")
    found.classes[name] = [path for path in files if is_image_name(path)]
    found.others.update(suffixes(path for path in files if not is_image_name(path)))


def files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yields all files below a folder, following links, except hidden ones and pipes.

    Raises UserError for a link to one of the folders above it.
    """
    # Such a link would be followed for ever.
    place = folder.resolve()
    if place in above:
        raise UserError(f"{folder} is the same folder as {place}, above it: remove the link")
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.is_dir():
                yield from files_below(Path(entry.path), (*above, place))
            # No pipe, which would be waited for. A broken link is reported when it is read.
            elif entry.is_file() or entry.is_symlink():
                yield Path(entry.path)


def suffixes(files: Iterable[Path]) -> Counter[str]:
    """Returns the number of files of each suffix, in lower case."""
    return Counter(path.suffix.lower() for path in files)


def is_image_name(path: Path) -> bool:
    """True if the file's name ends like that of an image."""
    return path.suffix.lower() in SUFFIXES
