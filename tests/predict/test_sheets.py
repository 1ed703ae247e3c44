"""Contact sheets: what is drawn where, read back from the file."""

import io

import numpy as np
import pytest
from PIL import Image

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


@pytest.mark.parametrize(
    ("text", "expected"), [("short", "short"), ("abcdefghijkl", "abcd…jkl"), ("", "")]
)
def test_a_long_name_is_cut_in_its_middle(text, expected):
    assert sheets.shortened(text, 8) == expected
