"""The first layer's kernels by tower (paper, Figure 3)."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from alexnet_jax.errors import UserError
from alexnet_jax.figures.style import SETTINGS
from alexnet_jax.nets.spec import Conv, Net
from alexnet_jax.weights import readers

FILE = "kernels.npz"  # of a record: conv1 [towers, size, size, 3, maps of a tower]
GAP = 1  # pixels between two kernels
COLOUR = 0.5  # colour fraction above which a kernel counts as one of colour; random weights: 2/3


def first_convolution(net: Net) -> str | None:
    """Returns the name of the first convolution, or None if model.without leaves all of them out.

    It is conv1 unless that is left out.
    """
    return next((layer.name for layer in net.layers if isinstance(layer, Conv)), None)


def to_pictures(kernels: np.ndarray) -> np.ndarray:
    """Scales each kernel so that 0 becomes mid-grey and its largest weight black or white.

    Args:
      kernels: float [size, size, 3, maps].

    Returns:
      float [maps, size, size, 3] of 0–1.
    """
    kernels = np.moveaxis(kernels, -1, 0)
    largest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    return 0.5 + 0.5 * kernels / np.maximum(largest, 1e-12)  # a kernel of zeros is grey


def colour_fraction(kernels: np.ndarray) -> np.ndarray:
    """Returns the share of each kernel's squared weights that is colour, not grey.

    A kernel k is split into its mean over R, G and B, which is all that a grey picture meets, and
    the rest: Σ (k − grey)² ÷ Σ k². It is 0 for a kernel that is blind to colour and 2/3 for random
    weights.

    Args:
      kernels: float [size, size, 3, maps].

    Returns:
      float [maps].
    """
    grey = kernels.mean(axis=2, keepdims=True)
    return ((kernels - grey) ** 2).sum((0, 1, 2)) / np.maximum((kernels**2).sum((0, 1, 2)), 1e-30)


def orientation_selectivity(kernels: np.ndarray) -> np.ndarray:
    """Returns the degree to which each kernel prefers one orientation: |Σ P e^(2iθ)| ÷ Σ P.

    P is the power of the kernel at each of its spatial frequencies, summed over R, G and B, and θ
    the frequency's angle. The mean, at frequency 0, has no angle and is left out. The measure is 1
    for a grating, 0 for a round blob and about 0.07 for random weights of 11×11.

    Args:
      kernels: float [size, size, 3, maps].

    Returns:
      float [maps].
    """
    power = (np.abs(np.fft.fft2(kernels, axes=(0, 1))) ** 2).sum(axis=2)
    # Rounding leaves a flat kernel some power at random angles.
    least = 1e-12 * power.sum(axis=(0, 1)) + 1e-30
    power[0, 0] = 0
    frequencies = np.fft.fftfreq(len(kernels))
    angles = np.arctan2(frequencies[:, None], frequencies)
    # Twice the angle: a grating that is turned by half a circle is the same grating.
    preferred = np.abs(np.einsum("yxm,yx->m", power, np.exp(2j * angles)))
    return preferred / np.maximum(power.sum(axis=(0, 1)), least)


def describe_kernels(kernels: np.ndarray) -> str:
    """Describes the kernels of a tower: the share of colour kernels and the mean selectivity."""
    colour = (colour_fraction(kernels) > COLOUR).mean()
    orientation = orientation_selectivity(kernels).mean()
    return f"{100 * colour:.0f} % colour, orientation selectivity {orientation:.2f}"


def mosaic(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Lays pictures [maps, size, size, 3] out in rows with white gaps between them."""
    count, size = pictures.shape[:2]
    rows = math.ceil(count / columns)
    # A gap after every kernel but the last of a row or column.
    sheet = np.ones((rows * (size + GAP) - GAP, columns * (size + GAP) - GAP, 3))
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        top, left = row * (size + GAP), column * (size + GAP)
        sheet[top : top + size, left : left + size] = picture
    return sheet


def tower_blocks(kernel: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the kernels of each tower [size, size, 3, maps] by a line about them."""
    return {
        f"tower {number} of {len(kernel)}: {describe_kernels(tower)}": tower
        for number, tower in enumerate(kernel, 1)
    }


def draw_kernels(kernel: np.ndarray, title: str) -> Figure:
    """Draws the kernels of each tower: float32 [towers, size, size, 3, maps of a tower]."""
    return draw_blocks(tower_blocks(kernel), title)


def draw_blocks(blocks: Mapping[str, np.ndarray], title: str, columns: int = 16) -> Figure:
    """Draws blocks of kernels, each below its own title.

    Args:
      blocks: float [size, size, 3, maps] by title, such as those of `tower_blocks`.
      title: above the figure.
      columns: kernels in a row at most.
    """
    # Each kernel has its own scale: with a common one the weak kernels would be flat grey.
    sheets = [mosaic(to_pictures(x), min(columns, x.shape[-1])) for x in blocks.values()]
    heights = [9 * sheet.shape[0] / sheet.shape[1] + 0.3 for sheet in sheets]
    with rc_context(SETTINGS):
        figure = Figure(figsize=(9, sum(heights) + 0.4), layout="constrained")
        rows = figure.subplots(len(sheets), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, name, sheet in zip(rows, blocks, sheets, strict=True):
            axes.imshow(sheet, interpolation="nearest")
            axes.set_axis_off()
            # A folder may have a $ in its name, which is no formula.
            axes.set_title(name, loc="left", fontsize=9, parse_math=False)
        figure.suptitle(title)
    return figure


def read_kernels(folder: Path) -> dict[str, np.ndarray]:
    """Reads the first layer that a record keeps, or those of a folder's records.

    Returns:
      The kernels of each tower [size, size, 3, maps] by a line about it.

    Raises:
      UserError: there is no kernels.npz, or one that is damaged or holds something else.
    """
    own = folder / FILE
    blocks: dict[str, np.ndarray] = {}
    for path in [own] if own.is_file() else sorted(folder.glob(f"*/{FILE}")):
        kernel = readers.read(path).arrays.get("conv1", np.zeros(0))
        if kernel.ndim != 5 or kernel.shape[3] != 3:
            raise UserError(f"{path} has no conv1 [towers, size, size, 3, maps]; bring it back")
        name = path.parent.resolve().name.replace("_", " ")
        blocks |= {f"{name}, {line}": x for line, x in tower_blocks(kernel).items()}
    if not blocks:
        raise UserError(
            f"{folder} has no {FILE}, nor have the folders in it; give one such as results/towers"
        )
    return blocks
