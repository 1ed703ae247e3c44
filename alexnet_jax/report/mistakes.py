"""The mistakes of a net: counts over the predictions of an evaluation, in NumPy."""

import numpy as np


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts the pictures of each true class (row) that got each predicted class (column).

    Args:
      labels, predicted: int [N], 0 … classes − 1.
      classes: number of them.

    Returns:
      int64 [classes, classes].
    """
    # One number for each cell, so that bincount can count pairs; int64, as classes² exceeds int32
    # from 46,341 classes on.
    cells = labels.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def class_errors(matrix: np.ndarray) -> np.ndarray:
    """Returns the top-1 error of each class, float [classes]; NaN for one without pictures."""
    totals = matrix.sum(axis=1)
    with np.errstate(invalid="ignore"):  # 0 ÷ 0 for a class without pictures
        return (totals - np.diag(matrix)) / totals


def frequent_confusions(matrix: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """Returns (true class, predicted class, pictures) of the most frequent errors.

    The most frequent come first; of equal ones the lower true class, then the lower predicted one.
    """
    errors = matrix - np.diag(np.diag(matrix))
    true, predicted = np.nonzero(errors)
    counts = errors[true, predicted]
    # Stable: nonzero lists the cells by row, then column, and equal counts keep that order.
    order = np.argsort(-counts, kind="stable")[:most]
    return [(int(true[i]), int(predicted[i]), int(counts[i])) for i in order]


def worst_pictures(wrong: np.ndarray, label_probabilities: np.ndarray, most: int) -> np.ndarray:
    """Returns the misclassified pictures whose true class is the least probable, worst first.

    Args:
      wrong: bool [N].
      label_probabilities: float [N], of the true classes.
      most: number of pictures at most.

    Returns:
      int64 positions, `most` or fewer.
    """
    found = np.flatnonzero(wrong)
    return found[np.argsort(label_probabilities[found], kind="stable")[:most]]


def common_errors(wrong: np.ndarray) -> np.ndarray:
    """Counts the pictures that each two of several nets get wrong.

    Args:
      wrong: bool [nets, N], on the same pictures.

    Returns:
      int64 [nets, nets]; the diagonal has each net's own errors.
    """
    counts = wrong.astype(np.int64)  # a product of bools would be bools
    return counts @ counts.T  # a dot product counts the pictures that are wrong in both
