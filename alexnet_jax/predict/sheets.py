"""Contact sheets of pictures: with their likeliest classes, or beside their nearest pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.predict.columns import beginning, without_middle
from alexnet_jax.predict.drawing_files import write_drawing

CELL = 1.9  # inches, width of a picture
GAP = 0.22  # inches between cells
LINE = 0.185  # inches, height of a line of text
TITLE = 0.28  # inches above or below a picture for its title
MARGIN = 0.25  # inches around the sheet
COLUMNS = 4  # pictures side by side with their classes
DPI = 150
INK, PALE = "#222222", "#666666"
BAR, RIGHT_BAR = "#a9c8e8", "#f2a7a0"  # a class; the picture's own class
LETTERS = 26  # that fit below a picture


@dataclass(frozen=True)
class Classified:
    """A picture with its likeliest classes.

    Attributes:
      pixels: uint8 [S, S, 3].
      title: name of the picture.
      classes, probabilities: names and probabilities of classes, likeliest first.
      label: name of its true class; "" if it is not known.
    """

    pixels: np.ndarray
    title: str
    classes: Sequence[str]
    probabilities: Sequence[float]
    label: str = ""


@dataclass(frozen=True)
class Captioned:
    """A picture, uint8 [S, S, 3] or float [S, S, 3] from 0 to 1, and the text below it."""

    pixels: np.ndarray
    caption: str = ""


def classes_sheet(path: Path, pictures: Sequence[Classified]) -> None:
    """Writes pictures with bars for their likeliest classes, see `draw_classes`."""
    write_drawing(draw_classes(pictures), path, dpi=DPI, facecolor="white")


def draw_classes(pictures: Sequence[Classified]) -> Figure:
    """Draws pictures with bars for their likeliest classes, as the paper's Figure 4 has them.

    The bar of the picture's own class, if it is known, is red.
    """
    lines = max(len(picture.classes) for picture in pictures)
    columns = min(COLUMNS, len(pictures))
    height = CELL + TITLE + lines * LINE
    sheet = _Sheet(Figure(), columns, -(-len(pictures) // columns), CELL, height)  # rounded up
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        show(sheet.axes(row, column, 0, CELL), picture.pixels)
        title = without_middle(picture.label or picture.title, LETTERS)
        sheet.text(row, column, CELL + TITLE / 2, title, weight="bold")
        _draw_bars(sheet.axes(row, column, CELL + TITLE, lines * LINE), picture, lines)
    return sheet.figure


def _draw_bars(axes: Axes, picture: Classified, lines: int) -> None:
    # Downwards, so that the likeliest class is at the top.
    axes.set(xlim=(0, 1), ylim=(lines - 0.5, -0.5), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color("#dddddd")
    pairs = zip(picture.classes, picture.probabilities, strict=True)
    for line, (name, probability) in enumerate(pairs):
        colour = RIGHT_BAR if name == picture.label else BAR
        axes.barh(line, probability, height=0.82, color=colour)
        place = {"va": "center_baseline", "fontsize": 7.5, "parse_math": False}
        axes.text(
            0.025,
            line,
            # Shorter than a caption: the percentage stands beside it.
            beginning(name, LETTERS - 3),
            color=INK,
            **place,
        )
        axes.text(0.975, line, f"{100 * probability:.0f} %", color=PALE, ha="right", **place)


def rows_sheet(
    path: Path, rows: Sequence[Sequence[Captioned]], headings: Sequence[str] = ()
) -> None:
    """Writes rows of captioned pictures.

    Args:
      path: of the .png file.
      rows: of pictures; they may differ in length.
      headings: of the columns, above the first row; the first column is then set apart.
    """
    columns = max(map(len, rows))
    top, apart = (TITLE, GAP) if headings else (0, 0)
    sheet = _Sheet(Figure(), columns, len(rows), CELL, CELL + TITLE, top, apart)
    for column, heading in enumerate(headings):
        sheet.text(0, column, -TITLE / 2, heading, weight="bold")
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            show(sheet.axes(row, column, 0, CELL), picture.pixels)
            sheet.text(
                row, column, CELL + TITLE / 2, without_middle(picture.caption, LETTERS), color=PALE
            )
    write_drawing(sheet.figure, path, dpi=DPI, facecolor="white")


def show(axes: Axes, pixels: np.ndarray) -> None:
    """Draws a picture without ticks, small ones with square pixels."""
    axes.imshow(pixels, interpolation="nearest" if len(pixels) < 64 else "antialiased")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


class _Sheet:
    """A figure divided into equal cells, whose parts are placed in inches from a cell's top."""

    def __init__(
        self,
        figure: Figure,
        columns: int,
        rows: int,
        width: float,
        height: float,
        top: float = 0.0,
        apart: float = 0.0,
    ) -> None:
        """Sizes the figure.

        Args:
          figure: empty.
          columns, rows: numbers of cells.
          width, height: of a cell.
          top: room for headings.
          apart: extra room to the right of the first column.
        """
        self.figure, self._cell, self._top, self._apart = figure, (width, height), top, apart
        # No gap follows the last column and the last row.
        self._size = (
            2 * MARGIN + columns * (width + GAP) - GAP + apart,
            2 * MARGIN + rows * (height + GAP) - GAP + top,
        )
        figure.set_size_inches(self._size)

    def _corner(self, row: int, column: int) -> tuple[float, float]:
        left = MARGIN + column * (self._cell[0] + GAP) + self._apart * (column > 0)
        return left, MARGIN + self._top + row * (self._cell[1] + GAP)

    def axes(self, row: int, column: int, below: float, height: float) -> Axes:
        """Returns axes as wide as the cell, `below` inches under its top."""
        left, top = self._corner(row, column)
        width, total = self._size
        # matplotlib measures in fractions of the figure, upwards from its lower edge.
        bottom = total - top - below - height
        return self.figure.add_axes(
            (left / width, bottom / total, self._cell[0] / width, height / total)
        )

    def text(self, row: int, column: int, below: float, text: str, **style: object) -> None:
        """Writes a line in the middle of the cell, `below` inches under its top."""
        left, top = self._corner(row, column)
        width, total = self._size
        place = ((left + self._cell[0] / 2) / width, 1 - (top + below) / total)
        style = {"color": INK, "fontsize": 8, "ha": "center", "va": "center"} | style
        # matplotlib would read what stands between two $ of a name as a formula.
        self.figure.text(*place, text, parse_math=False, **style)
