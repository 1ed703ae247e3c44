"""Confusion, class errors and worst pictures against scikit-learn and hand-worked cases."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_matrix
from sklearn.metrics import recall_score

from alexnet_jax.report import mistakes

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2], np.int32)
PREDICTED = np.array([0, 1, 1, 1, 0, 2, 0, 0, 1], np.int32)
MATRIX = [[1, 2, 0, 0], [1, 1, 0, 0], [2, 1, 1, 0], [0, 0, 0, 0]]  # a fourth class has no pictures


def test_the_confusion_matrix_by_hand():
    found = mistakes.confusion_matrix(LABELS, PREDICTED, 4)
    assert found.tolist() == MATRIX


@pytest.mark.parametrize("classes", [2, 10, 300])
def test_confusion_and_class_errors_are_those_of_scikit_learn(classes):
    rng = np.random.default_rng(classes)
    labels, predicted = rng.integers(0, classes, (2, 5000))
    found = mistakes.confusion_matrix(labels, predicted, classes)
    np.testing.assert_array_equal(
        found, sklearn_matrix(labels, predicted, labels=np.arange(classes))
    )
    recall = recall_score(labels, predicted, average=None, labels=np.arange(classes))
    np.testing.assert_allclose(mistakes.class_errors(found), 1 - recall, atol=1e-12)


def test_labels_of_sixteen_bits_do_not_overflow():
    """2999 × 3000, the start of the last row, is more than they hold."""
    labels, predicted = np.array([[2999], [2998]], np.uint16)
    found = mistakes.confusion_matrix(labels, predicted, 3000)
    assert found[2999, 2998] == 1 and found.sum() == 1


def test_a_class_without_pictures_has_no_error():
    errors = mistakes.class_errors(np.array(MATRIX))
    np.testing.assert_allclose(errors, [2 / 3, 1 / 2, 3 / 4, np.nan])


def test_the_most_frequent_confusions_come_first_and_ties_by_class():
    found = mistakes.frequent_confusions(np.array(MATRIX), 3)
    assert found == [(0, 1, 2), (2, 0, 2), (1, 0, 1)]
    assert len(mistakes.frequent_confusions(np.array(MATRIX), 100)) == 4
    assert mistakes.frequent_confusions(np.eye(3, dtype=int), 5) == []


def test_the_worst_picture_gives_its_true_class_the_least_probability():
    wrong = np.array([True, False, True, True, False])
    probabilities = np.array([0.3, 0.01, 0.1, 0.3, 0.9])
    assert mistakes.worst_pictures(wrong, probabilities, 2).tolist() == [2, 0]
    assert mistakes.worst_pictures(wrong, probabilities, 9).tolist() == [2, 0, 3]
    assert mistakes.worst_pictures(np.zeros(5, bool), probabilities, 9).tolist() == []


def test_common_errors_by_hand():
    wrong = np.array([[1, 1, 0, 0, 1], [0, 1, 1, 0, 1]], bool)
    assert mistakes.common_errors(wrong).tolist() == [[3, 2], [2, 3]]
