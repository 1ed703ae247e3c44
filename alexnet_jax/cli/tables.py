"""Tables and lines as text for a terminal, and tables as Markdown."""

import io
import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

Rows = Sequence[Sequence[str]]


def text_table(rows: Rows, left: int = 1) -> str:
    """Returns a table whose first row is its header.

    Args:
      rows: cells as text, all rows of one length.
      left: number of columns that are aligned left; the others are aligned right.
    """
    header, *body = rows
    table = Table(box=None, pad_edge=False, header_style=None)  # without lines: it can be copied
    for place, title in enumerate(header):
        justify = "left" if place < left else "right"
        table.add_column(title, justify=justify, no_wrap=True)
    for row in body:
        table.add_row(*row)
    text = io.StringIO()
    # rich would otherwise wrap rows at the width of the terminal, or at 80. Without markup, text in
    # brackets is printed as it is.
    Console(file=text, width=10_000, markup=False, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def markdown_table(rows: Rows, left: int = 1) -> str:
    """Returns the table in GitHub's Markdown; the arguments are those of `text_table`."""
    header, *body = rows
    rule = ["---" if place < left else "--:" for place in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *body))


def percent(fraction: float) -> str:
    """Returns a fraction in percent with two decimals."""
    return f"{100 * fraction:.2f} %"


def wrap(text: str) -> str:
    """Returns a line for a terminal of 80 columns."""
    # A path is not divided, so that it can be copied.
    how = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(text, 80, subsequent_indent="  ", **how)
