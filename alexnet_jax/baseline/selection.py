"""The choice of the SVM's cost on validation data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from alexnet_jax.baseline.classifier import fit
from alexnet_jax.evaluate import top_k

# Of `classifier.objective`, rising, so that each fit can start from the weights of the one before.
COSTS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
PATIENCE = 2  # costs in a row without a lower validation error, after which the search ends


@dataclass(frozen=True, eq=False)
class Trial:
    """A cost, the SVM fitted with it, and that SVM's errors on validation data."""

    cost: float
    weights: np.ndarray
    errors: dict[str, float]


def errors(top5: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns the top-1 and top-5 error of int [N, 5] ranked classes, as fractions."""
    wrong = top5 != labels[:, None]
    return {
        "top1_error": float(wrong[:, 0].mean()),
        "top5_error": float(wrong.all(axis=1).mean()),
    }


def trials(
    features: np.ndarray,
    labels: np.ndarray,
    num_fitted: int,
    products: np.ndarray,
    num_classes: int,
) -> Iterator[Trial]:
    """Yields a trial for each cost, rising, until the validation error no longer falls.

    Each fit starts from the weights of the one before.

    Args:
      features: float32 [N, D]; the first num_fitted rows are fitted, the others validate.
      labels: int [N].
      num_fitted: number of rows to fit.
      products: Gram matrix of these rows.
      num_classes: number of classes.
    """
    fitted, held_out = slice(num_fitted), slice(num_fitted, None)
    weights = np.zeros((features.shape[1], num_classes), np.float32)
    found = []
    for cost in COSTS:
        weights = fit(features[fitted], labels[fitted], products, cost, weights)
        top5 = top_k(features[held_out] @ weights, 5)
        trial = Trial(cost, weights, errors(top5, labels[held_out]))
        yield trial
        found.append(trial.errors["top1_error"])
        if has_turned(found):
            return


def has_turned(found: Sequence[float]) -> bool:
    """True if none of the last two errors is lower than the lowest before them."""
    return len(found) > PATIENCE and min(found[-PATIENCE:]) >= min(found[:-PATIENCE])
