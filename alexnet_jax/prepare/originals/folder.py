"""A folder of images, sorted into class folders by its user."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from alexnet_jax.data.images import START_BYTES, BadImageError, check_start, stated_size
from alexnet_jax.errors import UserError
from alexnet_jax.prepare.access import unreadable_named
from alexnet_jax.prepare.fingerprint import fingerprint_files
from alexnet_jax.prepare.originals.base import Original, OriginalImage
from alexnet_jax.prepare.originals.folder_layout import Layout, read_layout
from alexnet_jax.prepare.originals.names import readable


def open_folder(source: Path, *, skip_bad: bool) -> Original:
    """Opens a folder of images, with classes and files in the order of their names.

    Images are turned upright as their cameras recorded it. Raises UserError as read_layout does.
    Unless skip_bad, also for a file that has an image's suffix but not an image's first bytes.
    """
    layout = read_layout(source)
    files = [path for split in layout.splits for path in layout.files(split)]
    if not skip_bad:
        check_starts(files)
    class_names = tuple(layout.splits["train"])  # their order gives the labels of all splits

    def read(split: str) -> Iterator[OriginalImage]:
        for class_name, paths in layout.splits[split].items():
            label = class_names.index(class_name)
            for path in paths:
                yield OriginalImage(readable(str(path.relative_to(source))), path, label)

    return Original(
        class_names=class_names,
        sizes={split: len(layout.files(split)) for split in layout.splits},
        read=read,
        common_size=common_size(files),
        source=readable(str(source.resolve())),
        fingerprints=fingerprints_of(source, layout),
        upright=True,
        notes=layout.notes,
    )


def fingerprints(source: Path) -> dict[str, str]:
    """Returns the fingerprint of each split of a folder; raises UserError as read_layout does."""
    return fingerprints_of(source, read_layout(source))


def fingerprints_of(source: Path, layout: Layout) -> dict[str, str]:
    """Returns the fingerprint of the images of each split."""
    return {split: fingerprint_files(source, layout.files(split)) for split in layout.splits}


def common_size(paths: list[Path]) -> tuple[int, int] | None:
    """Returns height and width if all these images have the same, else None.

    Files that are not images do not count.
    """
    found = set()
    for path in paths:
        # A bad file is reported, or skipped, when it is read.
        with contextlib.suppress(BadImageError):
            found.add(stated_size(path))
        # Photographs mostly differ, so that a few headers are enough.
        if len(found) > 1:
            return None
    return found.pop() if found else None


def check_starts(paths: list[Path]) -> None:
    """Raises UserError for the first file that does not start like an image.

    Only a few bytes of each file are read, so that a text file called .jpg is reported within
    seconds and before anything is written.
    """
    for path in paths:
        with unreadable_named(), path.open("rb") as file:
            start = file.read(START_BYTES)
        try:
            check_start(start)
        except BadImageError as error:
            raise UserError(
                f"{path} {error}: remove it, or leave such files out with --on_bad_image=skip"
            ) from error
