"""Maps as pictures against hand-worked values."""

import numpy as np
import pytest

from alexnet_jax.explain import drawings


def test_a_map_is_enlarged_linearly_between_its_centres():
    values = np.array([[0.0, 4.0], [8.0, 12.0]])  # at pixels 1 and 3 from the edge, of 4
    row = np.array([0.0, 1.0, 3.0, 4.0])  # pixel centres are at 0.5, 1.5, 2.5 and 3.5
    expected = row + 2 * row[:, None]
    np.testing.assert_allclose(drawings.enlarge(values, np.array([1.0, 3.0]), 4), expected)


def test_a_pattern_is_grey_where_it_is_zero_and_reaches_black_and_white():
    values = np.zeros((2, 2, 3))
    values[0, 0], values[1, 1] = 5, -5
    drawn = drawings.pattern(values)
    np.testing.assert_allclose(drawn[:, :, 0], [[1, 0.5], [0.5, 0]])


def test_nothing_to_show_is_drawn_without_a_division_by_zero():
    nothing = np.zeros((4, 4))
    assert np.all(drawings.heat(nothing) < 0.02)
    assert np.all(drawings.pattern(np.zeros((4, 4, 3))) == 0.5)
    picture = np.full((4, 4, 3), 51, np.uint8)
    np.testing.assert_allclose(drawings.overlay(picture, nothing), 0.2)


def test_an_overlay_is_red_for_support_and_blue_for_its_contrary():
    picture = np.full((1, 3, 3), 128, np.uint8)
    red, grey, blue = drawings.overlay(picture, np.array([[1.0, 0.0, -1.0]]))[0]
    assert red[0] > red[2] + 0.3 and blue[2] > blue[0] + 0.3
    np.testing.assert_allclose(grey, 128 / 255)


def test_a_small_loss_gets_a_faint_colour():
    picture, values = np.full((1, 2, 3), 128, np.uint8), np.array([[0.01, 0.0]])
    faint, full = (drawings.overlay(picture, values, least)[0, 0] for least in (0.1, 0.0))
    assert full[0] - full[2] > 5 * (faint[0] - faint[2]) > 0


@pytest.mark.parametrize(("reach", "side"), [(1, 3), (4, 9)])
def test_patterns_are_cut_to_the_square_that_holds_all_of_them(reach, side):
    patterns = np.zeros((2, 9, 9, 3))
    patterns[1, 4 + reach, 4, 2] = -1
    cut = drawings.cropped_to_pattern(patterns)
    assert cut.shape == (2, side, side, 3) and cut.sum() == -1
