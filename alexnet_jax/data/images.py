"""Single image files: their size, their pixels, and their stored form. Pillow reads them."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM")
# First bytes of JPEG, PNG, WebP, TIFF of both byte orders, BMP, and four kinds of PGM and PPM.
STARTS = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"II*\0", b"MM\0*", b"BM", b"P2", b"P3", b"P5", b"P6")
START_BYTES = max(map(len, STARTS))
JPEG_QUALITY = 90
# The resolution in the file's header changes no pixel. But it is part of the file: with another,
# the same images would give other bytes and checksums.
JPEG_DPI = (300, 300)
MOST_PIXELS = 100_000_000  # an image that claims more is refused before it fills the memory
TURNS = {  # of the pixels as stored, by their EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImageError(Exception):
    """An image that cannot be used; the message gives a person the reason."""


def check_start(start: bytes) -> None:
    """Raises BadImageError unless a file with these first bytes may be an image.

    START_BYTES bytes are enough.
    """
    if not start:
        raise BadImageError("is empty")
    if not start.startswith(STARTS):
        raise BadImageError(f"is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file")


@contextlib.contextmanager
def faults_named() -> Iterator[None]:
    """Turns the dozen kinds of errors that Pillow raises for a broken file into BadImageError."""
    try:
        yield
    except BadImageError:
        raise
    except Image.DecompressionBombError as error:
        raise BadImageError("claims more than 100 megapixels") from error
    except Exception as error:
        raise BadImageError("cannot be decoded: it is truncated or corrupt") from error


def open_image(file: BinaryIO | Path) -> Image.Image:
    """Opens an image of any of FORMATS without decoding it.

    Raises BadImageError if it has no pixels or more than MOST_PIXELS.
    """
    image = Image.open(file, formats=FORMATS)
    width, height = image.size
    if not 0 < height * width <= MOST_PIXELS:
        raise BadImageError(f"claims {height} × {width} pixels, more than 100 megapixels or none")
    return image


def stated_size(path: Path) -> tuple[int, int]:
    """Returns height and width from the header of an image file, before any EXIF rotation.

    Raises BadImageError if there is no such header.
    """
    with faults_named(), open_image(path) as image:
        return image.size[::-1]


def decode(content: bytes, *, upright: bool) -> np.ndarray:
    """Returns the pixels of an image file as RGB uint8 [H, W, 3].

    Grey, CMYK and palette images become RGB, transparency is dropped, and 16 bits become 8.
    upright: turn the image as its EXIF orientation says, as cameras and phones record it. Raises
    BadImageError if the file is broken, in no known format, or larger than MOST_PIXELS.
    """
    check_start(content)
    with faults_named():
        # Compares a PNG's checksums. Pillow cannot decode an image after `verify`, hence two opens.
        open_image(io.BytesIO(content)).verify()
        with open_image(io.BytesIO(content)) as image:
            return to_rgb(turned_upright(image) if upright else image)


def turned_upright(image: Image.Image) -> Image.Image:
    """Returns an image turned as its EXIF orientation says; as it is if that cannot be read.

    Pillow's own exif_transpose also rewrites the other entries, and refuses intact pixels beside a
    damaged one.
    """
    image.load()  # in a PNG, EXIF may follow the pixels
    orientation = None
    with contextlib.suppress(Exception):  # Pillow raises a dozen kinds for damaged EXIF
        orientation = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    return image if orientation is None else image.transpose(orientation)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Returns uint8 [H, W, 3]; raises BadImageError for pixels whose range of values is unknown."""
    # Pillow opens a PGM of 16 bits, whose format it calls PPM, in its mode for 32 bits.
    sixteen_bits = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM")
    if sixteen_bits:  # Pillow's own conversion would clip at 255
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise BadImageError("has pixels of 32 bits, whose range is not known; save it with 8 bits")
    return np.asarray(image.convert("RGB"))


def centre_square(image: np.ndarray, side: int) -> np.ndarray:
    """Resizes the shorter side to `side` pixels and returns the centre: uint8 [side, side, 3].

    Paper §2 names no interpolation; this one is bilinear with antialiasing. Only the part that is
    kept is computed.
    """
    size = np.array(image.shape[1::-1])  # width, height: Pillow's order
    # Rounded to whole pixels, as if all of the picture were resized before it is cropped.
    resized = np.rint(size * (side / size.min()))
    start = (resized - side) // 2
    box = np.concatenate([start, start + side]) * np.tile(size / resized, 2)
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, tuple(box))
    return np.asarray(small)


def encode_jpeg(image: np.ndarray) -> bytes:
    """Returns uint8 [H, W, 3] as a JPEG file of quality 90, with colours at half resolution."""
    file = io.BytesIO()
    options = {"quality": JPEG_QUALITY, "subsampling": "4:2:0", "dpi": JPEG_DPI}
    Image.fromarray(image).save(file, "JPEG", **options)
    return file.getvalue()
