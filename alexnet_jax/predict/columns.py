"""Texts cut to a number of columns; a Chinese or Japanese letter and an emoji take two."""

from rich.cells import cell_len, set_cell_size


def beginning(text: str, columns: int) -> str:
    """Returns the text, or its beginning and a … if it takes more columns."""
    # A wide letter that would reach over the last column becomes a space, which is removed.
    return text if cell_len(text) <= columns else f"{set_cell_size(text, columns - 1).rstrip()}…"


def end(text: str, columns: int) -> str:
    """Returns the text, or a … and its end if it takes more columns."""
    return beginning(text[::-1], columns)[::-1]


def without_middle(text: str, columns: int) -> str:
    """Returns the text, or its beginning, a … and its end if it takes more columns."""
    if cell_len(text) <= columns:
        return text
    half = (columns - 1) // 2
    return beginning(text, columns - half) + end(text, half + 1).removeprefix("…")
