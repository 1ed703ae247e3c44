"""Contact sheets: what is drawn where, read back from the file."""

import io
import warnings

import numpy as np
import pytest
from fonts import SIDE, write_font
from matplotlib.font_manager import fontManager
from PIL import Image
from small_disk import files_up_to

from alexnet_jax.predict import sheets


def drawn(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def area(pixels, colour):
    """The rows and columns between which a colour lies, and how many pixels have it."""
    rows, columns = np.nonzero((np.abs(pixels - np.array(colour)) <= 3).all(-1))
    return (rows.min(), rows.max(), columns.min(), columns.max()), len(rows)


def plain(colour, side=64):
    return np.full((side, side, 3), colour, np.uint8)


def test_bars_are_as_long_as_the_probabilities_and_red_for_the_true_class(tmp_path):
    picture = sheets.Classified(plain((0, 90, 0)), "x.png", ("cat", "dog"), (0.8, 0.2), "dog")
    sheets.classes_sheet(tmp_path / "sheet.png", [picture])
    pixels = drawn(tmp_path / "sheet.png")
    shown, count = area(pixels, (0, 90, 0))
    side = sheets.CELL * sheets.DPI
    assert count == pytest.approx(side**2, rel=0.02)
    blue, red = (area(pixels, colour)[0] for colour in ((169, 200, 232), (242, 167, 160)))
    assert blue[3] - blue[2] == pytest.approx(0.8 * side, abs=3)
    assert red[3] - red[2] == pytest.approx(0.2 * side, abs=3)
    assert shown[1] < blue[0] < red[0] and abs(blue[2] - shown[2]) <= 3


@pytest.mark.parametrize("name", ["a$b$c", "$\\bad{$", "$_^$"])
def test_a_name_with_dollar_signs_is_no_formula(name):
    picture = sheets.Classified(plain((0, 90, 0)), name, (name,), (1.0,))
    figure = sheets.draw_classes([picture])
    figure.savefig(io.BytesIO())
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    shown = [text for text in texts if text.get_text() == name]
    assert len(shown) == 2 and not any(text.get_parse_math() for text in shown)


def test_rows_of_pictures_lie_below_each_other(tmp_path):
    colours = [[(200, 0, 0), (0, 200, 0)], [(0, 0, 200)]]
    rows = [[sheets.Captioned(plain(colour), "name") for colour in row] for row in colours]
    sheets.rows_sheet(tmp_path / "sheet.png", rows, ("picture", "nearest"))
    pixels = drawn(tmp_path / "sheet.png")
    red, green, blue = (area(pixels, colour)[0] for row in colours for colour in row)
    assert red[:2] == green[:2] and red[3] < green[2]
    assert blue[2:] == red[2:] and red[1] < blue[0]


def test_the_same_sheet_is_the_same_svg(tmp_path):
    for name in ("a.svg", "b.svg"):
        sheets.rows_sheet(tmp_path / name, [named("photo.jpg")])
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A font with 猫 and 犬 beside the ones that are installed, and no other font with them."""
    write_font(tmp_path / "squares.ttf", "Squares", "猫犬")
    own = [font for font in fontManager.ttflist if font.name.startswith(("DejaVu", "Last Resort"))]
    monkeypatch.setattr(fontManager, "ttflist", own)
    fontManager.addfont(tmp_path / "squares.ttf")


def named(name):
    return [sheets.Captioned(plain((0, 90, 0)), name)]


def test_letters_come_from_an_installed_font_that_has_them(tmp_path, installed, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sheets.rows_sheet(tmp_path / "sheet.png", [named("猫犬")])
    assert capsys.readouterr() == ("", "")
    # Two letters of 8 points, each a square in the colour of captions.
    _, count = area(drawn(tmp_path / "sheet.png"), (0x66, 0x66, 0x66))
    assert count == pytest.approx(2 * (SIDE * 8 * sheets.DPI / 72) ** 2, rel=0.1)


def test_letters_that_no_font_has_are_one_line(tmp_path, installed, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sheets.rows_sheet(tmp_path / "sheet.png", [named("猫山川é"), named("川")])
    assert capsys.readouterr().out == (
        f"warning: no installed font has 山川, drawn as boxes in {tmp_path / 'sheet.png'}; install "
        "one, such as Noto Sans CJK\n"
    )


def test_a_sheet_that_does_not_fit_on_the_disk_leaves_the_older_one(tmp_path):
    path = tmp_path / "sheet.png"
    sheets.rows_sheet(path, [named("old")])
    before = path.read_bytes()
    with files_up_to(1000), pytest.raises(OSError, match="File too large"):
        sheets.rows_sheet(path, [named("new")])
    assert path.read_bytes() == before
    assert [x.name for x in tmp_path.iterdir()] == ["sheet.png"]
