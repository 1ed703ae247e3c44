"""The common form of all original data sets."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class OriginalImage:
    """An original image.

    name: identifies the image for people.
    content: pixels uint8 [H, W, 3], an image file, or the path of an image file.
    label: 0 … classes − 1.
    """

    name: str
    content: bytes | np.ndarray | Path
    label: int


@dataclass(frozen=True)
class Original:
    """An original data set.

    sizes: number of images in each split: train; val and test if they have labels.
    read: yields the images of a split, always in the same order.
    common_size: height and width if all images are known to have the same, else None.
    source: the folder, archive or data set, for people and for the store's record.
    fingerprints: a text for each split that changes when the original files change; empty if they
      cannot change.
    upright: True turns images as their EXIF orientation says.
    notes: lines for the user on how the originals were read.
    """

    class_names: tuple[str, ...]
    sizes: dict[str, int]
    read: Callable[[str], Iterator[OriginalImage]]
    common_size: tuple[int, int] | None = None
    source: str = ""
    fingerprints: dict[str, str] = field(default_factory=dict)
    upright: bool = False
    notes: tuple[str, ...] = ()
