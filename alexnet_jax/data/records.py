"""Reads a split's records, each checked against its CRC-32; what is done about a bad one."""

import functools
import zlib

import numpy as np

from alexnet_jax.data.images import encode_jpeg
from alexnet_jax.data.store import Split
from alexnet_jax.errors import UserError


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

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Raw images: uint8 [len(rows), S, S, 3]; a bad one is black."""
        images = np.take(self._split.images, rows, axis=0)
        for image, row in zip(images, rows, strict=True):
            if not self._intact(row, image):
                self.bad[int(row)] = "its content has changed since it was prepared"
                image[:] = 0
        return images

    def jpegs(self, rows: np.ndarray) -> np.ndarray:
        """JPEG files: bytes [len(rows)]; in place of a bad one that of a black image."""
        try:
            files = self._split.images.read(rows)
        except (RuntimeError, ValueError, OSError):
            files = [self._jpeg(row) for row in rows]
        for place, row in enumerate(rows):
            if files[place] and not self._intact(row, files[place]):
                self.bad[int(row)] = "its content has changed since it was prepared"
            if int(row) in self.bad:
                files[place] = black_jpeg(self._split.images.image_size)
        return np.array(files, dtype=object)

    def _jpeg(self, row: int) -> bytes:
        try:
            return self._split.images.read([row])[0]
        except (RuntimeError, ValueError, OSError) as error:
            self.bad[int(row)] = str(error).splitlines()[0][:100]
            return b""

    def _intact(self, row: int, content: bytes | np.ndarray) -> bool:
        checksums = self._split.checksums
        return checksums is None or zlib.crc32(content) == checksums[row]

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
        images = self._split.images
        return str(getattr(images, "path", None) or getattr(images, "filename", "memory"))


@functools.cache
def black_jpeg(side: int) -> bytes:
    """A JPEG file of side × side black pixels."""
    return encode_jpeg(np.zeros((side, side, 3), np.uint8))
