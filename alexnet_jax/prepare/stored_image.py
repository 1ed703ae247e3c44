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
    """A converted image: pixels, record, its CRC-32 and colour products; or the fault it has."""

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
                f"{form.side}; --image_size=256 makes them alike"
            )
    except images.BadImageError as error:
        return StoredImage(name, original.label, fault=str(error))
    # The record is the array's own memory, which a crop shares with the picture it is cut from.
    pixels = np.ascontiguousarray(pixels)
    record = pixels.data if form.encoding == "raw" else images.encode_jpeg(pixels)
    products = image_statistics.colour_products(pixels) if with_products else None
    return StoredImage(name, original.label, pixels, record, crc32(record), products)


def read_pixels(content: bytes | np.ndarray | Path, upright: bool) -> np.ndarray:
    """Returns the pixels of an original image: uint8 [H, W, 3]."""
    if isinstance(content, np.ndarray):
        return content
    try:
        file = content.read_bytes() if isinstance(content, Path) else content
    except OSError as error:
        raise images.BadImageError(f"cannot be read ({error.strerror})") from error
    return images.decode(file, upright=upright)
