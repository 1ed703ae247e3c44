"""The pages: their tables are those of the records, their links lead somewhere."""

import re

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


def test_a_table_is_put_between_its_marks():
    text = "before\n<!-- table:nets -->\nold\n<!-- end -->\nafter\n"
    filled = tables.filled(text)
    assert filled.startswith("before\n<!-- table:nets -->\n| name |")
    assert filled.endswith("|\n<!-- end -->\nafter\n") and "old" not in filled
    assert "| `alexnet` | the paper as printed | 224 | 2 | 60,965,224 | 724,406,816 |" in filled
