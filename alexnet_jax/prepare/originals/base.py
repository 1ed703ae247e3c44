"""The common form of all original data sets."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class OriginalImage:
    """An original image.

    name: identifies it for a person.
    content: a JPEG or PNG file, or pixels uint8 [H, W, 3].
    label: 0 … classes − 1.
    """

    name: str
    content: bytes | np.ndarray
    label: int


@dataclass(frozen=True)
class Original:
    """An original data set.

    sizes: number of images in each split: train; val and test if they have labels.
    read: yields the images of a split, always in the same order.
    common_size: height and width if all images are known to share them.
    source: for a person and for the record: the folder, archive or data set.
    fingerprints: for each split, changes when the original files change; empty if they cannot.
    """

    class_names: tuple[str, ...]
    sizes: dict[str, int]
    read: Callable[[str], Iterator[OriginalImage]]
    common_size: tuple[int, int] | None = None
    source: str = ""
    fingerprints: dict[str, str] = field(default_factory=dict)
