"""What every reader of an original data set gives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class OriginalImage:
    """An image as it was found.

    name: says to a person which one it is.
    content: a JPEG or PNG file, or pixels uint8 [H, W, 3].
    label: 0 … classes − 1.
    """

    name: str
    content: bytes | np.ndarray
    label: int


@dataclass(frozen=True)
class Original:
    """An original data set.

    sizes: images in each split; the splits are train, and val and test where they have labels.
    read: gives the images of a split, always in the same order.
    common_size: height and width where all images are known to share them.
    """

    class_names: tuple[str, ...]
    sizes: dict[str, int]
    read: Callable[[str], Iterator[OriginalImage]]
    common_size: tuple[int, int] | None = None
