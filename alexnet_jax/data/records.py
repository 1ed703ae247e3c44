"""Reads a split's records, each checked against its CRC-32; what is done about a bad one."""

import contextlib
import math
import mmap
import weakref
from collections import deque

import numpy as np
from isal.isal_zlib import crc32
from simplejpeg import decode_jpeg

from alexnet_jax.data.store import JpegRecords, RawRecords, Split
from alexnet_jax.errors import UserError

OWN_PAGES = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
FAULTS = (RuntimeError, ValueError, IndexError, OSError)  # of a file that cannot be read


def own_pages(size: int) -> mmap.mmap:
    """So many bytes in pages of their own, which jax and TensorFlow read in place.

    They tear no hole into the memory that a training step uses again and again. Large pages where
    there are any: those of 4 kB cost a third of the time that it takes to fill them.
    """
    memory = mmap.mmap(-1, size, flags=OWN_PAGES)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel that was built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def rows_of(split: Split, indices: np.ndarray) -> np.ndarray:
    """Where the images of these numbers stand in split.images."""
    return indices if split.rows is None else split.rows[indices]


class Records:
    """The records of a split, and which of those read so far are bad; read from by threads.

    skip: bad images are left out of the batches, counted and told; else the first is a UserError.
    """

    def __init__(self, split: Split, skip: bool) -> None:
        self._split, self._skip = split, skip
        self.bad: dict[int, str] = {}  # row: why
        self._told: set[int] = set()
        self._given_back: deque[mmap.mmap] = deque()

    def new(self, count: int) -> np.ndarray:
        """Memory for so many images: uint8 [count, S, S, 3], aligned as jax wants it."""
        shape = (count, *self._split.images.shape[1:])
        return np.frombuffer(own_pages(math.prod(shape)), np.uint8).reshape(shape)

    def again(self, count: int) -> np.ndarray:
        """The same, in memory that was given out before and that nobody looks at any more.

        Always for as many images. Pages are cleared by the system when they are new, a quarter of
        the time that it takes to fill them.
        """
        shape = (count, *self._split.images.shape[1:])
        try:
            memory = self._given_back.popleft()
        except IndexError:
            memory = own_pages(math.prod(shape))
        pixels = np.frombuffer(memory, np.uint8)
        weakref.finalize(pixels, self._given_back.append, memory).atexit = False
        return pixels.reshape(shape)

    def read(self, rows: np.ndarray, images: np.ndarray) -> None:
        """Puts the images of these rows into uint8 [len(rows), S, S, 3]; a bad one is black."""
        for row, image in zip(rows.tolist(), images, strict=True):
            if fault := self._fault(row, image):
                self.bad[row] = fault
                image[:] = 0

    def _fault(self, row: int, image: np.ndarray) -> str:
        """Puts one image into uint8 [S, S, 3]; what is wrong with it, or nothing."""
        checksums = self._split.checksums
        try:
            content = stored(self._split.images, row, image)
            if checksums is not None and crc32(content) != checksums[row]:
                return "its content has changed since it was prepared"
            if content is not image and decode_jpeg(content, buffer=image).shape != image.shape:
                return "it is of another size"
        except FAULTS as error:
            return (str(error) or repr(error)).splitlines()[0][:100]
        return ""

    def usable(self, indices: np.ndarray) -> np.ndarray:
        """Which of these images of the split, which have been read, are good: bool [N].

        Raises UserError for a bad one that is not to be skipped, or if not one is left.
        """
        if not self.bad:
            return np.ones(len(indices), bool)
        rows = rows_of(self._split, indices)
        good = np.array([int(row) not in self.bad for row in rows])
        for row in rows[~good]:
            self._tell(int(row))
        if not good.any():
            raise UserError(f"a whole batch of {self._name()} is corrupt; prepare the store again")
        return good

    def _tell(self, row: int) -> None:
        text = f"image {row} of {self._name()} cannot be used ({self.bad[row]})"
        if not self._skip:
            raise UserError(
                f"{text}: remove the store and prepare it again, or set data.on_bad_record=skip "
                "to train without it"
            )
        if row not in self._told:
            self._told.add(row)
            print(f"{text}: left out of training, {len(self._told)} so far", flush=True)

    def _name(self) -> str:
        return str(getattr(self._split.images, "path", "memory"))


def stored(
    images: np.ndarray | RawRecords | JpegRecords, row: int, image: np.ndarray
) -> bytes | np.ndarray:
    """What is stored of an image: a JPEG file, or `image` itself, into which the pixels were put.

    Raises one of FAULTS where it cannot be read.
    """
    if isinstance(images, JpegRecords):
        return images.read([row])[0]
    if isinstance(images, RawRecords):
        images.read_into(row, image)
    else:
        image[:] = images[row]
    return image
