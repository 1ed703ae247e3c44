"""The conversion of one original image into its stored form."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from isal.isal_zlib import crc32

from alexnet_jax.data import image_statistics, images
from alexnet_jax.prepare.form import Form
from alexnet_jax.prepare.originals.base import OriginalImage


@dataclass(frozen=True)
class StoredImage:
    """A converted image, or the fault for which it cannot be used.

    name, label: of the original.
    pixels: uint8 [S, S, 3].
    record: the stored form, the pixels' own memory or a JPEG file.
    checksum: CRC-32 of the record.
    products: as image_statistics.colour_products returns them; None if they are not asked for.
    fault: the reason for people; empty if the image can be used.
    """

    name: str
    label: int
    pixels: np.ndarray | None = None
    record: bytes | memoryview = b""
    checksum: int = 0
    products: np.ndarray | None = None
    fault: str = ""


def to_stored(
    original: OriginalImage, *, form: Form, classes: int, upright: bool, with_products: bool
) -> StoredImage:
    """Decodes, resizes and encodes one image. Thread-safe."""
    name = original.name
    try:
        if not 0 <= original.label < classes:
            raise images.BadImageError(f"has label {original.label} of {classes} classes")
        pixels = read_pixels(original.content, upright)
        pixels = images.centre_square(pixels, form.side) if form.resize else pixels
        if pixels.shape != (form.side, form.side, 3):
            raise images.BadImageError(
                f"has {pixels.shape[0]} × {pixels.shape[1]} pixels and others {form.side} × "
                f"{form.side}; --image_size=256 makes them equal"
            )
    except images.BadImageError as error:
        return StoredImage(name, original.label, fault=str(error))
    # A raw record is the array's own memory, so the array must be contiguous: the images of
    # CIFAR-10, for one, are transposed views of the original's records.
    pixels = np.ascontiguousarray(pixels)
    record = pixels.data if form.encoding == "raw" else images.encode_jpeg(pixels)
    products = image_statistics.colour_products(pixels) if with_products else None
    return StoredImage(name, original.label, pixels, record, crc32(record), products)


def read_pixels(content: bytes | np.ndarray | Path, upright: bool) -> np.ndarray:
    """Returns the pixels of an original image: uint8 [H, W, 3].

    Raises BadImageError if the file cannot be read or decoded.
    """
    if isinstance(content, np.ndarray):
        return content
    try:
        file = content.read_bytes() if isinstance(content, Path) else content
    except OSError as error:
        raise images.BadImageError(f"cannot be read ({error.strerror})") from error
    return images.decode(file, upright=upright)
