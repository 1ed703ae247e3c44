import io
import struct

import numpy as np
import pytest
from image_files import jpeg, picture, png
from PIL import Image

from alexnet_jax.data import images


def pillow(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), np.int32)


@pytest.mark.parametrize(
    "content",
    [
        *(
            pytest.param(jpeg(picture(30, 40), mode), id=f"jpeg {mode}")
            for mode in ("RGB", "L", "CMYK")
        ),
        *(
            pytest.param(png(picture(30, 40), mode), id=f"png {mode}")
            for mode in ("RGB", "L", "P", "RGBA")
        ),
    ],
)
def test_every_kind_is_read_as_rgb(content):
    pixels = images.decode(content)
    assert pixels.shape == (30, 40, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels - pillow(content)).max() <= 3
    assert images.header_size(content) == (30, 40)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"this is text\n", "neither a JPEG nor a PNG"),
        (b"", "neither a JPEG nor a PNG"),
        (jpeg(picture(30, 40))[:400], "truncated or corrupt"),
        (png(picture(30, 40))[:400], "truncated or corrupt"),
        (b"\xff\xd8\xff\xe0", "without a frame header"),
        (b"\xff\xd8" + b"\xff" * 50, "without a frame header"),
    ],
)
def test_a_broken_file_says_why(content, reason):
    with pytest.raises(images.BadImageError, match=reason):
        images.decode(content)


def test_an_absurd_size_is_refused_before_decoding():
    small = png(picture(10, 10))
    bomb = small[:16] + struct.pack(">II", 100_000, 100_000) + small[24:]
    with pytest.raises(images.BadImageError, match="100 megapixels"):
        images.decode(bomb)


def triangle(old, new):
    """float64 [new, old]: each new pixel's weights, a triangle twice as wide as a pixel of the
    coarser grid; what lies beyond the edge has none.
    """
    reach = max(old / new, 1.0)
    centres = (np.arange(new) + 0.5) * old / new
    weights = np.maximum(0, 1 - np.abs(np.arange(old) + 0.5 - centres[:, None]) / reach)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(("height", "width"), [(90, 120), (120, 91), (64, 64), (20, 33), (500, 40)])
def test_resize_is_antialiased_and_keeps_the_centre(height, width):
    original = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    side, shorter = 32, min(height, width)
    rows = triangle(height, round(height * side / shorter))
    columns = triangle(width, round(width * side / shorter))
    resized = np.einsum("rh,hwc,kw->rkc", rows, original, columns, optimize=True)
    top, left = (len(rows) - side) // 2, (len(columns) - side) // 2
    expected = resized[top : top + side, left : left + side]
    found = images.centre_square(original, side)
    assert found.shape == (side, side, 3) and found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 1.5  # twice rounded to whole numbers


def test_resize_averages_what_it_leaves_out():
    chequered = np.uint8(255 * (np.indices((64, 64)).sum(0) % 2))[..., None].repeat(3, 2)
    found = images.centre_square(chequered, 8)
    assert np.abs(found.astype(int) - 128).max() <= 2


def test_a_very_long_image_takes_little_memory():
    assert images.centre_square(picture(1, 5000), 64).shape == (64, 64, 3)


def test_jpeg_encoding_is_close():
    original = picture(64, 64)
    assert np.abs(pillow(images.encode_jpeg(original)) - original).mean() < 2
