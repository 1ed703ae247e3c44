"""The conversion of one original image into its stored form."""

from dataclasses import dataclass

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
    original: OriginalImage, *, form: Form, classes: int, with_products: bool
) -> StoredImage:
    """Decodes, resizes and encodes one image. Thread-safe."""
    name, content = original.name, original.content
    try:
        if not 0 <= original.label < classes:
            raise images.BadImageError(f"has label {original.label} of {classes} classes")
        pixels = content if isinstance(content, np.ndarray) else images.decode(content)
        pixels = images.centre_square(pixels, form.side) if form.resize else pixels
        if pixels.shape != (form.side, form.side, 3):
            raise images.BadImageError(
                f"has {pixels.shape[0]} × {pixels.shape[1]} pixels and others {form.side} × "
                f"{form.side}; --image_size=256 makes them alike"
            )
    except images.BadImageError as error:
        return StoredImage(name, original.label, fault=str(error))
    pixels = np.ascontiguousarray(pixels)
    record = pixels.data if form.encoding == "raw" else images.encode_jpeg(pixels)
    products = image_statistics.colour_products(pixels) if with_products else None
    return StoredImage(name, original.label, pixels, record, crc32(record), products)
