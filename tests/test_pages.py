"""The pages: their tables are those of the records, their links lead somewhere."""

import re

import numpy as np
import pytest
import tables
import tower_tables

PAGES = tables.pages()
IDS = [str(page.relative_to(tables.TOP)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_tables_are_those_of_the_records(page):
    """`python launch/tables.py --write` renews them."""
    text = page.read_text()
    assert tables.filled(text) == text


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_to_a_file_leads_to_one(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("halved", [False, True])
def test_the_colour_kernels_of_two_towers_are_counted_and_compared(tmp_path, halved):
    """A flat red kernel has 2/3 of its squares in colour, a flat grey one none; no orientation.

    Of the 70 ways to choose 4 of 8 kernels two put all of one kind in one tower: p = 2/70.
    """
    red, grey = np.zeros((5, 5, 3)), np.ones((5, 5, 3))
    red[..., 0] = 1
    kernels = np.stack([np.stack([x] * 4, axis=-1) for x in (grey, red)])  # [2, 5, 5, 3, 4]
    if halved:
        kernels = np.concatenate(list(kernels), axis=-1)[None]
    np.savez(tmp_path / "kernels.npz", conv1=kernels.astype(np.float16))
    towers = tower_tables.read_towers(tmp_path / "kernels.npz")
    assert towers.divided == halved and towers.counts == [4, 0]
    np.testing.assert_allclose(towers.colour, [[2 / 3] * 4, [0] * 4], atol=1e-6)
    assert np.all(towers.orientation < 1e-6)
    assert towers.p_colour == pytest.approx(2 / 70)


def test_a_table_is_put_between_its_marks():
    text = "before\n<!-- table:nets -->\nold\n<!-- end -->\nafter\n"
    filled = tables.filled(text)
    assert filled.startswith("before\n<!-- table:nets -->\n| name |")
    assert filled.endswith("|\n<!-- end -->\nafter\n") and "old" not in filled
    assert "| `alexnet` | the paper as printed | 224 | 2 | 60,965,224 | 724,406,816 |" in filled
