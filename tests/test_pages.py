"""The pages: their tables are those of the records, their links lead somewhere."""

import re

import numpy as np
import pytest
import tables

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


def test_kernels_of_one_tower_are_counted_in_two_halves():
    """A flat red kernel has 2/3 of its squares in colour, a flat grey one none; no orientation."""
    red, grey = np.zeros((5, 5, 3)), np.ones((5, 5, 3))
    red[..., 0] = 1
    kernels = np.stack([grey, grey, red, grey], axis=-1)
    two = np.stack([kernels[..., 1:3], kernels[..., :2]])
    assert tables.by_tower(kernels[None]) == ["4, halved", "50 %", "0 %", "0.00", "0.00"]
    assert tables.by_tower(two) == ["2 × 2", "50 %", "0 %", "0.00", "0.00"]


def test_a_table_is_put_between_its_marks():
    text = "before\n<!-- table:nets -->\nold\n<!-- end -->\nafter\n"
    filled = tables.filled(text)
    assert filled.startswith("before\n<!-- table:nets -->\n| name |")
    assert filled.endswith("|\n<!-- end -->\nafter\n") and "old" not in filled
    assert "| `alexnet` | the paper as printed | 224 | 2 | 60,965,224 | 724,406,816 |" in filled
