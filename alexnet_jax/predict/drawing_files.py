"""The files of drawings: complete or absent, with a font for every letter in them."""

import warnings
from collections.abc import Set
from pathlib import Path

from matplotlib import rc_context, rcParams
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

from alexnet_jax.disk.durable import complete_file

MOST_NAMED = 10  # letters in the warning
PLACEHOLDERS = "Last Resort"  # matplotlib's font of boxes for letters that no other font has


def write_drawing(figure: Figure, *paths: Path, **options: object) -> None:
    """Writes a figure to .png and .svg files, each complete or absent.

    The same figure gives the same files. Prints a warning that names the letters for which no font
    is installed.

    Args:
      figure: its texts get further fonts if their own lacks a letter.
      paths: of the files.
      options: of `Figure.savefig`.
    """
    lacking = choose_fonts(figure)
    for path in paths:
        kind = path.suffix.removeprefix(".")
        # Without the date, so that the same figure is the same file.
        metadata = {"Date": None} if kind == "svg" else None
        # Otherwise the ids in an SVG are random.
        same_ids = rc_context({"svg.hashsalt": "alexnet_jax"})
        with complete_file(path) as file, warnings.catch_warnings(), same_ids:
            warnings.filterwarnings("ignore", "Glyph")  # the line below says it once
            figure.savefig(file, format=kind, metadata=metadata, **options)
    if lacking:
        named = "".join(sorted(lacking)[:MOST_NAMED])
        print(
            f"warning: no installed font has {named}, drawn as boxes in {paths[0]}; install one, "
            "such as Noto Sans CJK"
        )


def choose_fonts(figure: Figure) -> Set[str]:
    """Gives texts the installed fonts that have their letters; returns the letters of no font."""
    texts = figure.findobj(Text)
    letters = {letter for text in texts for letter in text.get_text() if letter.isprintable()}
    lacking = letters - _letters_in(findfont(FontProperties()), letters)
    if not lacking:
        return lacking
    families, lacking = fonts_with(lacking)
    for text in texts:
        text.set_fontfamily([*rcParams["font.family"], *families])
    return lacking


def fonts_with(letters: Set[str]) -> tuple[list[str], Set[str]]:
    """Returns the names of installed fonts that have these letters, and the letters of none."""
    families = []
    upright = [x for x in fontManager.ttflist if x.style == "normal"]
    # Names are in a sans-serif font, as all text of our figures.
    for font in sorted(upright, key=lambda x: ("Sans" not in x.name, x.name)):
        if letters and not font.name.startswith(PLACEHOLDERS):
            found = _letters_in(font.fname, letters)
            families += [font.name] if found else []
            letters = letters - found
    return families, letters


def _letters_in(path: str, letters: Set[str]) -> Set[str]:
    """Returns those of the letters that a font file has."""
    try:
        font = get_font(path)
    except (OSError, RuntimeError):  # removed since matplotlib listed it, or of an unknown kind
        return set()
    return {letter for letter in letters if font.get_char_index(ord(letter))}
