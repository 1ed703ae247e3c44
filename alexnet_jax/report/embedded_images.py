"""Pictures as data URIs, so that a page needs no files beside it."""

import base64
import io

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from alexnet_jax.figures.style import SETTINGS

THUMBNAIL = 160  # pixels, longest side
SMALL = 96  # pixels, side up to which a picture is embedded without loss


def data_uri(content: bytes, kind: str) -> str:
    """Returns a file as a URI that holds it; `kind` is its media type, such as image/png."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def png_uri(pixels: np.ndarray) -> str:
    """Returns uint8 [H, W, 3], or [H, W, 4] with opacity, as the URI of a PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return data_uri(file.getvalue(), "image/png")


def thumbnail_uri(pixels: np.ndarray) -> str:
    """Returns the URI of a picture, uint8 [S, S, 3]: a PNG, or of a large one a small JPEG."""
    if len(pixels) <= SMALL:
        return png_uri(pixels)
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return data_uri(file.getvalue(), "image/jpeg")


def figure_uri(figure: Figure) -> str:
    """Returns a figure as the URI of an SVG; equal figures have equal URIs."""
    file = io.BytesIO()
    with rc_context(SETTINGS):
        # Without the date, so that the report of an unchanged run is the same file.
        figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    return data_uri(file.getvalue(), "image/svg+xml")
