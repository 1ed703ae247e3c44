"""Finding the user's pictures, and reading them into batches."""

import io
import os

import numpy as np
import pytest
from image_files import jpeg, picture, png
from PIL import Image

from alexnet_jax.data import images
from alexnet_jax.errors import UserError
from alexnet_jax.predict import pictures


@pytest.fixture
def photos(tmp_path):
    """A folder of pictures, with files that are none and with hidden ones."""
    content = jpeg(picture(30, 40))
    for name in ("b.jpg", "a.JPEG", "sub/c.png", ".hidden.jpg", ".thumbs/d.jpg", "notes.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "photos"


def names(found, below):
    return [str(path.relative_to(below)) for path in found]


def test_a_folder_stands_for_all_visible_pictures_below_it(photos):
    assert names(pictures.find([str(photos)], "images"), photos) == ["a.JPEG", "b.jpg", "sub/c.png"]


def test_a_pattern_stands_for_its_pictures_and_for_those_in_its_folders(photos):
    assert names(pictures.find([f"{photos}/*.[jJ]*"], "images"), photos) == ["a.JPEG", "b.jpg"]
    assert names(pictures.find([f"{photos}/**/*.png"], "images"), photos) == ["sub/c.png"]
    everything = pictures.find([f"{photos}/*"], "images")
    assert names(everything, photos) == ["a.JPEG", "b.jpg", "sub/c.png"]


def test_places_keep_their_order_and_each_file_comes_once(photos):
    places = [str(photos / "sub"), str(photos / "b.jpg"), str(photos)]
    assert names(pictures.find(places, "images"), photos) == ["sub/c.png", "b.jpg", "a.JPEG"]


def test_a_file_that_is_named_is_read_whatever_it_is_called(photos):
    (photos / "scan").write_bytes(png(picture(20, 20)))
    (found,) = pictures.find([str(photos / "scan")], "images")
    assert pictures.read(found, 16).error == ""


@pytest.mark.parametrize("place", ["", "/*"])
def test_files_that_are_no_pictures_are_counted_and_named(photos, place, capsys):
    """A phone's .heic among .jpg would otherwise be missing from the table without a word."""
    for name in ("IMG_1.HEIC", "IMG_2.heic", "sub/anim.gif", "one.gif"):
        (photos / name).write_bytes(b"x")
    pictures.find([f"{photos}{place}", str(photos / "one.gif")], "images")
    # one.gif is read, because it is named.
    assert capsys.readouterr().out == "files that are not read: 2 .heic, 1 .gif, 1 .txt\n"
    with pytest.raises(UserError, match=r"no pictures found, only 2 \.heic; give files, folders"):
        pictures.find([f"{photos}/IMG*"], "images")


def test_a_tilde_is_the_home_folder(photos, monkeypatch):
    monkeypatch.setenv("HOME", str(photos))
    assert names(pictures.find(["~/sub"], "images"), photos) == ["sub/c.png"]


@pytest.mark.parametrize("place", ["nowhere.jpg", "empty", "*.gif"])
def test_a_place_without_pictures_is_named(place, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"--gallery=.*no pictures") as mistake:
        pictures.find([str(tmp_path / place)], "gallery")
    assert place in str(mistake.value)


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


RGB = picture(48, 64)
GREY = RGB.mean(-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("content", "expected", "error"),
    [
        pytest.param(png(RGB), RGB, 0, id="rgb"),
        pytest.param(jpeg(RGB), RGB, 4, id="jpeg"),
        pytest.param(encoded(GREY), GREY[..., None], 0, id="grey"),
        pytest.param(encoded(GREY.astype(np.uint16) * 257), GREY[..., None], 0, id="16 bits"),
        pytest.param(png(RGB, "RGBA"), RGB, 0, id="alpha"),
        pytest.param(jpeg(RGB, "CMYK"), RGB, 6, id="cmyk"),
    ],
)
def test_every_kind_of_file_is_read_in_colour(content, expected, error, tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(content)
    found = pictures.read(path, 48)
    assert found.pixels.dtype == np.uint8 and found.pixels.shape == (48, 48, 3)
    assert np.abs(found.pixels - expected[:, 8:56].astype(int)).max() <= error


def test_pixels_are_those_that_prepare_stores(tmp_path):
    path = tmp_path / "large.jpg"
    path.write_bytes(jpeg(picture(150, 100)))
    stored = images.centre_square(images.decode(path.read_bytes(), upright=True), 32)
    np.testing.assert_array_equal(pictures.read(path, 32).pixels, stored)


def test_a_bad_file_has_a_reason_and_no_pixels(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(png(picture(30, 30))[:200])
    for name, reason in (
        ("text.jpg", "is no JPEG"),
        ("cut.png", "truncated"),
        ("gone.png", "No such file"),
    ):
        found = pictures.read(tmp_path / name, 16)
        assert found.pixels is None and reason in found.error


def test_batches_keep_the_order_and_have_one_shape(tmp_path):
    colours = [10, 20, None, 40, 50, 60, 70]
    paths = [tmp_path / f"{i}.png" for i in range(len(colours))]
    for path, colour in zip(paths, colours, strict=True):
        path.write_bytes(b"bad" if colour is None else png(np.full((9, 9, 3), colour, np.uint8)))
    batches = list(pictures.read_batches(paths, 6, 3))
    assert [pixels.shape for _, pixels in batches] == [(3, 6, 6, 3)] * 3
    found = [picture for batch, _ in batches for picture in batch]
    assert [picture.path for picture in found] == paths
    shown = np.concatenate([pixels[:, 0, 0, 0] for _, pixels in batches])
    assert shown.tolist() == [10, 20, 0, 40, 50, 60, 70, 0, 0]


def test_few_pictures_make_a_small_batch(tmp_path):
    path = tmp_path / "one.png"
    path.write_bytes(png(picture(9, 9)))
    ((batch, pixels),) = pictures.read_batches([path], 6, 128)
    assert len(batch) == 1 and pixels.shape == (1, 6, 6, 3)
    twice = list(pictures.read_batches([path] * 10, 6, 9))
    assert [(len(batch), len(pixels)) for batch, pixels in twice] == [(5, 5), (5, 5)]


def test_a_photograph_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: the rows run from top to bottom at the right
    turned = np.rot90(RGB)
    (tmp_path / "phone.png").write_bytes(encoded(turned, exif=exif))
    (tmp_path / "plain.png").write_bytes(png(RGB))
    phone, plain = (pictures.read(tmp_path / f"{x}.png", 48).pixels for x in ("phone", "plain"))
    np.testing.assert_array_equal(phone, plain)
    assert np.abs(phone - turned[8:56].astype(int)).mean() > 10


def test_a_name_that_is_no_utf_8_can_be_printed(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    assert pictures.text_of(path).endswith("café.png")


@pytest.mark.parametrize("place", ["pipe.jpg", "link.jpg", "*.jpg"])
def test_what_is_neither_a_file_nor_a_folder_is_no_picture(tmp_path, place):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("nothing.jpg")
    with pytest.raises(UserError, match="no pictures found"):
        pictures.find([f"{tmp_path}/{place}"], "images")
