"""Single images of a split, each verified against its CRC-32; a bad one is fatal or left out."""

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
FAULTS = (RuntimeError, ValueError, IndexError, OSError)  # raised for a file that cannot be read


def own_pages(size: int) -> mmap.mmap:
    """Allocates `size` bytes outside the heap, aligned so that JAX reads them without a copy.

    A buffer from the heap would fragment the memory that every training step reuses. Huge pages are
    requested where the kernel has them: with pages of 4 kB, page faults take a third of the time in
    which the buffer is filled.
    """
    memory = mmap.mmap(-1, size, flags=OWN_PAGES)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def rows_of(split: Split, indices: np.ndarray) -> np.ndarray:
    """Returns the rows of split.images that hold these images of the split."""
    return indices if split.rows is None else split.rows[indices]


class Records:
    """Reader of a split's images that remembers the bad ones; safe to use from several threads.

    skip: True leaves bad images out of the batches, and reports and counts them. False raises
      UserError for the first one.
    """

    def __init__(self, split: Split, skip: bool) -> None:
        self._split, self._skip = split, skip
        self.bad: dict[int, str] = {}  # row: reason
        self._reported: set[int] = set()
        self._free: deque[mmap.mmap] = deque()

    def new(self, count: int) -> np.ndarray:
        """Allocates memory for `count` images: uint8 [count, S, S, 3]."""
        shape = (count, *self._split.images.shape[1:])
        size = math.prod(shape)
        # At least 1 byte: the list of images may be empty, but memory cannot be mapped empty.
        return np.frombuffer(own_pages(max(size, 1)), np.uint8)[:size].reshape(shape)

    def recycled(self, count: int) -> np.ndarray:
        """Returns memory like `new`, reusing a buffer whose last reader is gone.

        `count` must be the same in every call. The kernel zeroes new pages, which takes a quarter
        of the time that it takes to fill them.
        """
        shape = (count, *self._split.images.shape[1:])
        try:
            memory = self._free.popleft()
        except IndexError:
            memory = own_pages(math.prod(shape))
        pixels = np.frombuffer(memory, np.uint8)
        # `pixels` is collected with the last array that views it, also one inside jax or tf.data.
        # No finalizer runs at exit, when the memory is not reused.
        weakref.finalize(pixels, self._free.append, memory).atexit = False
        return pixels.reshape(shape)

    def read(self, rows: np.ndarray, images: np.ndarray) -> None:
        """Reads these rows into uint8 [len(rows), S, S, 3]; a bad image becomes black."""
        for row, image in zip(rows.tolist(), images, strict=True):
            if fault := self._read_one(row, image):
                self.bad[row] = fault
                image[:] = 0  # the memory may still hold another image

    def _read_one(self, row: int, image: np.ndarray) -> str:
        """Reads one image into uint8 [S, S, 3]; returns the reason if it is bad, else ''."""
        checksums = self._split.checksums
        try:
            content = read_stored(self._split.images, row, image)
            if checksums is not None and crc32(content) != checksums[row]:
                return "its content has changed since it was prepared"
            # The checksum is that of the file, so damage is found before a decoder sees it.
            if content is not image and decode_jpeg(content, buffer=image).shape != image.shape:
                return "it is of another size"
        except FAULTS as error:
            # One short line for the user: errors of libraries can have several.
            return (str(error) or repr(error)).splitlines()[0][:100]
        return ""

    def usable(self, indices: np.ndarray) -> np.ndarray:
        """Returns a bool mask [N], True for the good ones of these images, which have been read.

        Raises UserError for a bad image that must not be skipped.
        """
        if not self.bad:
            return np.ones(len(indices), bool)
        rows = rows_of(self._split, indices)
        good = np.array([int(row) not in self.bad for row in rows])
        for row in rows[~good]:
            self._report(int(row))
        return good

    def _report(self, row: int) -> None:
        """Prints, once per image, that the image is left out; raises UserError without `skip`."""
        text = f"image {row} of {self.name} cannot be used ({self.bad[row]})"
        if not self._skip:
            raise UserError(
                f"{text}: remove the store and prepare it again, or set data.on_bad_record=skip "
                "to train without it"
            )
        if row not in self._reported:
            self._reported.add(row)
            print(f"{text}: left out of training, {len(self._reported)} so far", flush=True)

    @property
    def name(self) -> str:
        """Returns the file that holds the images, for messages."""
        return str(getattr(self._split.images, "path", "memory"))


def read_images(split: Split, indices: np.ndarray) -> np.ndarray:
    """Reads these images of a split: uint8 [N, S, S, 3]; raises UserError for a corrupt one."""
    records = Records(split, skip=False)
    images = records.new(len(indices))
    records.read(rows_of(split, indices), images)
    records.usable(indices)
    return images


def read_stored(
    images: np.ndarray | RawRecords | JpegRecords, row: int, image: np.ndarray
) -> bytes | np.ndarray:
    """Reads the stored form of an image: a JPEG file, or `image` itself, filled with the pixels.

    Raises one of FAULTS if it cannot be read.
    """
    if isinstance(images, JpegRecords):
        return images.read([row])[0]
    if isinstance(images, RawRecords):
        images.read_into(row, image)
    else:
        image[:] = images[row]
    return image
