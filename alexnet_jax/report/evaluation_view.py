"""The view of an evaluation in a report: confusion matrix, classes, worst pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alexnet_jax.data.records import read_images
from alexnet_jax.errors import UserError
from alexnet_jax.report import mistakes
from alexnet_jax.report.embedded_images import png_uri, thumbnail_uri
from alexnet_jax.runs.predictions import Predictions, open_split, split_of

MOST_IN_TABLE = 20  # classes; more are drawn as a heat map
MOST_CLASSES = 10  # best and worst ones, if not all are listed
MOST_CONFUSIONS = 10
GUESSES = 3  # likeliest classes of a picture
RIGHT, WRONG = (46, 125, 195), (217, 83, 44)  # RGB of the heat map, as in style.css


@dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix: a count, and how strongly it is coloured, from 0 to 1."""

    count: int
    strength: float
    right: bool


@dataclass(frozen=True)
class ClassRow:
    """A class: its pictures, its top-1 error, and the class that it is most often taken for."""

    name: str
    pictures: int
    error: float
    taken_for: str


@dataclass(frozen=True)
class Confusion:
    """A class, another that it was taken for, and how often."""

    true: str
    predicted: str
    pictures: int


@dataclass(frozen=True)
class Guess:
    """A class of a picture, its probability, and whether it is the true one."""

    name: str
    probability: float
    right: bool


@dataclass(frozen=True)
class PictureView:
    """A misclassified picture as a URI, with its name, its true class and the likeliest classes."""

    uri: str
    name: str
    true: str
    probability: float
    guesses: tuple[Guess, ...]


@dataclass(frozen=True)
class EvaluationView:
    """The parts of a report that an evaluation gives.

    Attributes:
      class_names: in the order of the matrix.
      cells: rows of the confusion matrix, one for a true class; () if a heat map shows it.
      heat_map: URI of a picture with a pixel for each pair of classes; "" if a table shows it.
      worst, best: classes by their error; all of them in `worst` if they are few.
      confusions: the most frequent ones.
      wrong: number of misclassified pictures.
      pictures: the worst of them.
      missing: the reason why there are no pictures; "" if there is none.
    """

    class_names: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    heat_map: str
    worst: tuple[ClassRow, ...]
    best: tuple[ClassRow, ...]
    confusions: tuple[Confusion, ...]
    wrong: int
    pictures: tuple[PictureView, ...]
    missing: str


def view_of(predictions: Predictions, most_pictures: int) -> EvaluationView:
    """Returns the parts of the report on an evaluation; opens the data set for its pictures.

    Args:
      predictions: of the evaluation.
      most_pictures: number of misclassified pictures to show, at most.
    """
    names = tuple(map(str, predictions.class_names))
    matrix = mistakes.confusion_matrix(predictions.labels, predictions.classes[:, 0], len(names))
    few = len(names) <= MOST_IN_TABLE
    rows = class_rows(matrix, names)
    confusions = mistakes.frequent_confusions(matrix, MOST_CONFUSIONS)
    pictures, missing = worst_pictures(predictions, names, most_pictures)
    return EvaluationView(
        class_names=names,
        cells=cells_of(matrix) if few else (),
        heat_map="" if few else png_uri(heat_map(matrix)),
        worst=rows if few else rows[:MOST_CLASSES],
        best=() if few else rows[::-1][:MOST_CLASSES],
        confusions=tuple(Confusion(names[i], names[j], count) for i, j, count in confusions),
        wrong=int(predictions.wrong.sum()),
        pictures=pictures,
        missing=missing,
    )


def strengths(matrix: np.ndarray) -> np.ndarray:
    """Returns the square root of each count's share of its row: float [classes, classes], 0 to 1.

    The root keeps rare errors visible.
    """
    # A class without pictures has a row of zeros, which must not be divided by its sum.
    return np.sqrt(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1))


def cells_of(matrix: np.ndarray) -> tuple[tuple[Cell, ...], ...]:
    """Returns the cells of a confusion matrix, row by row."""
    strength = strengths(matrix)
    places = range(len(matrix))
    return tuple(
        tuple(Cell(int(matrix[i, j]), float(strength[i, j]), i == j) for j in places)
        for i in places
    )


def heat_map(matrix: np.ndarray) -> np.ndarray:
    """Returns uint8 [classes, classes, 4]: blue on the diagonal, red beside it, clear where 0."""
    # By opacity, so that the page's own background shows, light or dark.
    right = np.eye(len(matrix), dtype=bool)[..., None]
    colours = np.where(right, np.uint8(RIGHT), np.uint8(WRONG))
    opacity = np.rint(255 * strengths(matrix)).astype(np.uint8)
    return np.concatenate([colours, opacity[..., None]], axis=-1)


def class_rows(matrix: np.ndarray, names: Sequence[str]) -> tuple[ClassRow, ...]:
    """Returns the classes that have pictures, the highest error first."""
    errors, totals = mistakes.class_errors(matrix), matrix.sum(axis=1)
    others = matrix - np.diag(np.diag(matrix))  # without the right answers
    rows = []
    for index in np.argsort(-errors, kind="stable"):  # stable: equal errors in the order of classes
        if totals[index]:
            most = int(others[index].argmax())
            taken_for = f"{names[most]} ({others[index, most]})" if others[index, most] else ""
            row = ClassRow(names[index], int(totals[index]), float(errors[index]), taken_for)
            rows.append(row)
    return tuple(rows)


def worst_pictures(
    predictions: Predictions, names: Sequence[str], most: int
) -> tuple[tuple[PictureView, ...], str]:
    """Returns the worst misclassified pictures, or the reason why they cannot be shown."""
    indices = mistakes.worst_pictures(predictions.wrong, predictions.label_probabilities, most)
    try:
        # The data set may have been moved or prepared again since the evaluation.
        images = read_images(open_split(predictions), indices)
    except UserError as error:
        return (), str(error)
    pairs = zip(indices, images, strict=True)
    return tuple(picture_view(predictions, names, index, image) for index, image in pairs), ""


def picture_view(
    predictions: Predictions, names: Sequence[str], index: int, image: np.ndarray
) -> PictureView:
    """Returns a picture uint8 [S, S, 3] with its true class and its likeliest classes."""
    label = predictions.labels[index]
    pairs = zip(predictions.classes[index], predictions.probabilities[index], strict=True)
    guesses = [Guess(names[k], float(p), bool(k == label)) for k, p in pairs][:GUESSES]
    name = str(predictions.names[index])
    # Pictures of a data set without names are called by their position.
    if name.isdigit():
        name = f"{split_of(predictions.numbers)} image {name}"
    return PictureView(
        uri=thumbnail_uri(image),
        name=name,
        true=names[label],
        probability=float(predictions.label_probabilities[index]),
        guesses=tuple(guesses),
    )
