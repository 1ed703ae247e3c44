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


@pytest.mark.parametrize(("height", "width"), [(90, 120), (120, 91), (64, 64), (20, 33), (500, 40)])
def test_resize_is_antialiased_and_keeps_the_centre(height, width):
    original = picture(height, width, seed=height)
    side = 32
    shorter = min(height, width)
    size = (round(width * side / shorter), round(height * side / shorter))
    resized = Image.fromarray(original).resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    expected = np.asarray(resized.crop((left, top, left + side, top + side)), np.int32)
    found = images.centre_square(original, side)
    assert found.shape == (side, side, 3) and found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 2


def test_resize_averages_what_it_leaves_out():
    chequered = np.uint8(255 * (np.indices((64, 64)).sum(0) % 2))[..., None].repeat(3, 2)
    found = images.centre_square(chequered, 8)
    assert np.abs(found.astype(int) - 128).max() <= 2


def test_a_very_long_image_takes_little_memory():
    assert images.centre_square(picture(1, 5000), 64).shape == (64, 64, 3)


def test_jpeg_encoding_is_close():
    original = picture(64, 64)
    assert np.abs(pillow(images.encode_jpeg(original)) - original).mean() < 2
