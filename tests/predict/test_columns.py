"""Texts in a number of columns, by hand; a wide letter takes two of them."""

import pytest
from rich.cells import cell_len

from alexnet_jax.predict import columns


@pytest.mark.parametrize(
    ("cut", "text", "expected"),
    [
        (columns.beginning, "12345678", "12345678"),
        (columns.beginning, "123456789", "1234567…"),
        (columns.beginning, "猫犬鳥魚", "猫犬鳥魚"),
        (columns.beginning, "猫犬鳥魚馬", "猫犬鳥…"),
        (columns.beginning, "x猫犬鳥魚馬", "x猫犬鳥…"),
        (columns.end, "12345678", "12345678"),
        (columns.end, "123456789", "…3456789"),
        (columns.end, "猫犬鳥魚馬", "…鳥魚馬"),
        (columns.without_middle, "short", "short"),
        (columns.without_middle, "abcdefghijkl", "abcd…jkl"),
        (columns.without_middle, "猫犬鳥魚馬", "猫犬…馬"),
        (columns.without_middle, "", ""),
    ],
)
def test_a_text_that_takes_more_than_eight_columns_is_cut(cut, text, expected):
    assert cut(text, 8) == expected
    assert cell_len(expected) <= 8
