"""Explanations as pictures: maps in colour, maps over the picture, patterns around grey."""

import numpy as np
from matplotlib import colormaps

GREY = 0.5
STRONGEST = 0.75  # share of the colour where a map is largest; the picture has the rest


def heat(values: np.ndarray) -> np.ndarray:
    """Returns a map from 0 up, float [S, S], in colours, float [S, S, 3]; 0 is black."""
    return colormaps["inferno"](_relative(values))[..., :3]


def overlay(picture: np.ndarray, values: np.ndarray, least: float = 0.0) -> np.ndarray:
    """Lays a map over a picture in grey: red where it is positive, blue where it is negative.

    Args:
      picture: uint8 [S, S, 3].
      values: float [S, S].
      least: the full colour stands for this value or a larger one.

    Returns:
      float [S, S, 3], from 0 to 1.
    """
    grey = np.repeat(picture.mean(axis=-1, keepdims=True) / 255, 3, axis=-1)
    relative = _relative(values, least)
    colour = colormaps["coolwarm"]((relative + 1) / 2)[..., :3]
    share = STRONGEST * np.abs(relative)[..., None]
    return (1 - share) * grey + share * colour


def pattern(values: np.ndarray) -> np.ndarray:
    """Returns float [S, S, 3] of either sign as colours from 0 to 1; 0 is grey."""
    return GREY + _relative(values) / 2


def _relative(values: np.ndarray, least: float = 0.0) -> np.ndarray:
    """Scales values to −1 … 1; the strongest half a percent of them are cut off.

    Args:
      values: float, of any shape.
      least: the values are divided by this if they are all smaller.
    """
    strength = np.abs(values)
    # A quantile, so that a few peaks do not darken the rest. Of a map that is 0 nearly everywhere
    # the quantile is 0, and the maximum is taken.
    largest = max(np.quantile(strength, 0.995) or strength.max(), least) or 1.0
    return np.clip(values / largest, -1, 1)


def enlarge(values: np.ndarray, centres: np.ndarray, side: int) -> np.ndarray:
    """Interpolates a map linearly to every pixel of a picture.

    Args:
      values: float [P, P].
      centres: float [P], position of each value along either axis, in pixels from the edge.
      side: of the picture in pixels.

    Returns:
      float [side, side]; beyond the outermost centres the outermost values are repeated.
    """
    pixels = np.arange(side) + 0.5  # the middles of the pixels
    weights = np.stack([np.interp(pixels, centres, one) for one in np.eye(len(centres))])
    return weights.T @ values @ weights


def cropped_to_pattern(patterns: np.ndarray) -> np.ndarray:
    """Cuts patterns, float [U, S, S, 3], to the square around the middle where any is not grey."""
    strength = np.abs(patterns).max(axis=(0, 3))
    # Outside of a unit's receptive field only shrunken noise is left, which is below this bound.
    rows, columns = np.nonzero(strength > 0.05 * strength.max())
    middle = (len(strength) - 1) / 2
    reach = max(np.abs(rows - middle).max(), np.abs(columns - middle).max())
    margin = int(middle - reach)
    return patterns[:, margin : len(strength) - margin, margin : len(strength) - margin]
