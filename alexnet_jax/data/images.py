"""One original image: its size, its pixels, and how it looks in the store."""

import struct

import numpy as np
from PIL import Image

from alexnet_jax.data.lazy_tensorflow import tensorflow

JPEG_QUALITY = 90
MOST_PIXELS = 100_000_000  # an image that claims more is refused before it is decoded
PNG_START = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8"
JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers that state the size
JPEG_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a segment


class BadImageError(Exception):
    """This image cannot be used; the message says why, for a person."""


def header_size(content: bytes) -> tuple[int, int]:
    """Height and width that a JPEG or PNG file states. Raises BadImageError for any other file."""
    if content.startswith(PNG_START) and content[12:16] == b"IHDR" and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
    elif content.startswith(JPEG_START):
        height, width = jpeg_size(content)
    else:
        raise BadImageError("is neither a JPEG nor a PNG")
    return height, width


def jpeg_size(content: bytes) -> tuple[int, int]:
    """Height and width in the frame header of a JPEG file."""
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker in JPEG_FRAMES:
            return struct.unpack(">HH", content[at + 5 : at + 9])
        # A marker may be preceded by any number of fill bytes 0xFF.
        if marker == 0xFF:
            at += 1
        elif marker in JPEG_BARE:
            at += 2
        else:
            at += 2 + struct.unpack(">H", content[at + 2 : at + 4])[0]
    raise BadImageError("is a JPEG without a frame header")


def decode(content: bytes) -> np.ndarray:
    """The pixels of a JPEG or PNG file as RGB uint8 [H, W, 3]: grey, CMYK, palette alike.

    What the file is called does not matter. Raises BadImageError where it is broken or too large.
    """
    tf = tensorflow()
    height, width = header_size(content)
    if not 0 < height * width <= MOST_PIXELS:
        raise BadImageError(f"claims {height} × {width} pixels, more than 100 megapixels or none")
    try:
        if content.startswith(PNG_START):
            return tf.io.decode_png(content, channels=3).numpy()
        return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE").numpy()
    except tf.errors.OpError as error:
        raise BadImageError("cannot be decoded: it is truncated or corrupt") from error


def centre_square(image: np.ndarray, side: int) -> np.ndarray:
    """Shorter side resized to `side` pixels, then the centre: uint8 [side, side, 3]. Paper §2.

    Bilinear with antialiasing. Only the part that is kept is computed.
    """
    size = np.array(image.shape[1::-1])  # width, height, as Pillow has it
    resized = np.maximum(np.rint(size * (side / size.min())), side)
    start = (resized - side) // 2
    box = np.concatenate([start, start + side]) * np.tile(size / resized, 2)
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, tuple(box))
    return np.asarray(small)


def encode_jpeg(image: np.ndarray) -> bytes:
    """A JPEG file of quality 90 of uint8 [H, W, 3]."""
    return tensorflow().io.encode_jpeg(image, quality=JPEG_QUALITY).numpy()
