"""Test pictures with their likeliest classes as bars (paper, Figure 4, left)."""

import numpy as np
from matplotlib.figure import Figure

from alexnet_jax.data.records import read_images
from alexnet_jax.predict.sheets import Classified, draw_classes
from alexnet_jax.runs.predictions import Predictions, open_split

PICTURES, CLASSES = 8, 5


def chosen(count: int, seed: int = 0) -> np.ndarray:
    """Returns the positions of the pictures to show, chosen at random: int64 [8], ascending."""
    rng = np.random.default_rng(seed)
    # Sorted, so that the store is read from front to back.
    return np.sort(rng.choice(count, min(PICTURES, count), replace=False))


def draw_predictions(predictions: Predictions) -> Figure:
    """Draws eight random pictures of an evaluated split, each above its five likeliest classes.

    Raises:
      UserError: the data set cannot be opened, or has changed since the evaluation.
    """
    positions = chosen(len(predictions.labels))
    pictures = read_images(open_split(predictions), positions)
    pairs = zip(positions, pictures, strict=True)
    return draw_classes([_classified(predictions, *pair) for pair in pairs])


def _classified(predictions: Predictions, position: int, pixels: np.ndarray) -> Classified:
    names = predictions.class_names
    return Classified(
        pixels=pixels,
        title=str(predictions.names[position]),
        classes=[str(name) for name in names[predictions.classes[position][:CLASSES]]],
        probabilities=predictions.probabilities[position][:CLASSES],
        label=str(names[predictions.labels[position]]),
    )
