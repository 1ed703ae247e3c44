"""The look that all figures share, and their files."""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from alexnet_jax.predict.drawing_files import write_drawing

COLOURS = ("#0b5394", "#cc4125", "#38761d", "#b45f06", "#674ea7", "#444444")
SETTINGS = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "alexnet_jax",  # otherwise the ids in an SVG are random
}


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Writes a figure as PNG and SVG; returns the two paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with rc_context(SETTINGS):
        write_drawing(figure, *paths, dpi=160, bbox_inches="tight")
    return paths
