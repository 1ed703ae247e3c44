import io
import struct
import zlib

import numpy as np
import pytest
from image_files import image_file, jpeg, oriented, picture, png
from PIL import Image

from alexnet_jax.data import images
from alexnet_jax.data.lazy_tensorflow import tensorflow

NOISE = np.random.default_rng(0).integers(0, 256, (31, 45, 3), dtype=np.uint8)
GREY16 = np.random.default_rng(1).integers(0, 65536, (20, 30), dtype=np.uint16)


def file_of(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_alpha(mode):
    return Image.fromarray(np.dstack([NOISE, NOISE[..., :1]]), "RGBA").convert(mode)


JPEGS = {
    f"{mode} {subsampling} {'progressive' if progressive else ''}": file_of(
        Image.fromarray(pixels).convert(mode),
        "JPEG",
        quality=85,
        subsampling=subsampling,
        progressive=progressive,
    )
    for pixels in (NOISE,)
    for mode in ("RGB", "L", "CMYK")
    for subsampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1")
    for progressive in (False, True)
}
PNGS = {mode: png(NOISE, mode) for mode in ("RGB", "L", "P", "RGBA", "1")}
PNGS["LA"] = file_of(with_alpha("LA"), "PNG")
PNGS["16 bits"] = file_of(Image.fromarray(GREY16), "PNG")
PNGS["transparent palette"] = image_file(NOISE, "png", mode="P", transparency=bytes(range(256)))


@pytest.mark.parametrize("content", [*JPEGS.values(), *PNGS.values()], ids=[*JPEGS, *PNGS])
@pytest.mark.filterwarnings("ignore:Palette images")
def test_pixels_are_those_of_tensorflow(content):
    """Bit for bit, as stores had them when TensorFlow decoded the originals."""
    if content in PNGS.values():
        expected = tensorflow().io.decode_png(content, channels=3)
    else:
        method = {"dct_method": "INTEGER_ACCURATE"}
        expected = tensorflow().io.decode_jpeg(content, channels=3, **method)
    found = images.decode(content, upright=False)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected.numpy())


def test_jpeg_files_are_those_of_tensorflow():
    """Byte for byte, as stores have always held them."""
    for pixels in (NOISE, picture(64, 48)):
        expected = tensorflow().io.encode_jpeg(pixels, quality=90).numpy()
        assert images.encode_jpeg(pixels) == expected


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif", "tiff", "webp"])
def test_every_lossless_format_is_read(suffix):
    np.testing.assert_array_equal(images.decode(image_file(NOISE, suffix), upright=True), NOISE)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_become_their_high_eight(kind):
    found = images.decode(file_of(Image.fromarray(GREY16), kind), upright=True)
    np.testing.assert_array_equal(found, np.repeat((GREY16 // 256)[..., None], 3, 2))


@pytest.mark.parametrize("values", [np.float32([[0, 1]]), np.int32([[0, 70_000]])])
def test_pixels_of_an_unknown_range_are_refused(values):
    with pytest.raises(images.BadImageError, match="32 bits, whose range is not known"):
        images.decode(file_of(Image.fromarray(values), "TIFF"), upright=True)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_as_the_camera_recorded_it(orientation):
    upright = picture(80, 60)
    content = oriented(upright, orientation, "png")
    np.testing.assert_array_equal(images.decode(content, upright=True), upright)
    as_stored = images.decode(content, upright=False)
    assert as_stored.shape == ((80, 60, 3) if orientation < 5 else (60, 80, 3))
    assert (orientation == 1) == np.array_equal(as_stored, upright)


def test_the_stated_size_is_that_of_the_file(tmp_path):
    path = tmp_path / "a picture"
    for suffix in ("jpg", "png", "bmp", "ppm", "tiff", "webp"):
        path.write_bytes(image_file(NOISE, suffix))
        assert images.stated_size(path) == (31, 45)
    path.write_text("no picture")
    with pytest.raises(images.BadImageError):
        images.stated_size(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"this is text\n", "is no JPEG, PNG, WEBP, TIFF, BMP or PPM file"),
        (b"", "is empty"),
        (b"GIF89a" + bytes(99), "is no JPEG"),
        (jpeg(picture(30, 40))[:400], "truncated or corrupt"),
        (png(picture(30, 40))[:400], "truncated or corrupt"),
        (png(picture(30, 40))[:-20], "truncated or corrupt"),  # all pixels, without their checksum
        (image_file(NOISE, "bmp")[:-20], "truncated or corrupt"),
        (image_file(NOISE, "webp")[:-20], "truncated or corrupt"),
        (b"\xff\xd8\xff\xe0", "truncated or corrupt"),
        (b"\xff\xd8" + b"\xff" * 50, "truncated or corrupt"),
    ],
)
def test_a_broken_file_says_why(content, reason):
    with pytest.raises(images.BadImageError, match=reason):
        images.decode(content, upright=True)


def test_an_absurd_size_is_refused_before_decoding():
    small = png(picture(10, 10))
    header = small[12:16] + struct.pack(">II", 100_000, 100_000) + small[24:29]
    bomb = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    with pytest.raises(images.BadImageError, match="100 megapixels"):
        images.decode(bomb, upright=True)


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
    found = np.asarray(Image.open(io.BytesIO(images.encode_jpeg(original))), int)
    assert np.abs(found - original).mean() < 2


def exif(orientation, more):
    """EXIF with an orientation and one more entry of 12 bytes, which lies first."""
    entries = more + struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)


DAMAGED = {  # the segment, and whether its orientation can be read
    "an entry beyond the end": (exif(6, struct.pack("<HHII", 0x010E, 2, 99, 10**6)), False),
    "a word for a number": (exif(6, struct.pack("<HHI4s", 0x0102, 2, 4, b"abc\0")), True),
    "a number of no kind": (exif(6, struct.pack("<HHII", 0x0100, 99, 1, 7)), True),
    "no directory": (b"Exif\0\0II*\0" + b"\xff" * 20, False),
    "no byte order": (b"Exif\0\0??*\0" + bytes(20), False),
    "nothing": (b"Exif\0\0", False),
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.filterwarnings("ignore")
def test_damaged_exif_is_no_damaged_picture(damage):
    """Editors leave such files; the pixels are intact, and the orientation where it can be read."""
    pixels = picture(48, 64)
    segment, turned = DAMAGED[damage]
    plain = jpeg(pixels)
    content = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    expected = images.decode(plain, upright=False)
    expected = np.rot90(expected, -1) if turned else expected
    np.testing.assert_array_equal(images.decode(content, upright=True), expected)
