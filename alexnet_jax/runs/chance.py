"""The warning that a training has not left chance level.

A classifier that gives every class the same probability has a loss of ln(classes). Deep nets with
small initial weights can stay at it for thousands of steps, or for good.
"""

import math

PATIENCE = 500  # steps in a row
# Fraction of ln(classes). At chance, the loss of batches of 128 images was seen to differ by up to
# 0.01; with that as the limit, a single batch could start the count again.
TOLERANCE = 0.02


def steps_at_chance(steps: int, loss: float, classes: int) -> int:
    """Returns the number of steps in a row whose loss was that of chance.

    Args:
      steps: number of such steps in a row, up to the previous one.
      loss: mean cross-entropy of this step, in nats.
      classes: number of classes.
    """
    level = math.log(classes)
    return steps + 1 if abs(loss - level) < TOLERANCE * level else 0


def warning(classes: int) -> str:
    """Returns the warning, with what to try; its lines fit into 80 columns."""
    return (
        f"the loss has stood at ln({classes}) = {math.log(classes):.3f}, chance, for {PATIENCE} "
        "steps; try\n"
        "  --config.model.name=alexnet_released_std (std 0.03 in conv3 to conv5), or\n"
        "  other initial stds and biases by --config.model.initial; see docs/plateau.md"
    )
