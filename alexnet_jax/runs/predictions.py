"""The files that an evaluation leaves in its workdir: its numbers and its predictions.

eval.json holds the errors. predictions.npz holds the likeliest classes of every picture, and a copy
of the numbers in eval.json, which shows that the two files belong together. It is read without
pickle.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import Split, open_dataset
from alexnet_jax.disk.durable import complete_file
from alexnet_jax.errors import UserError
from alexnet_jax.runs.workdir import EVALUATION, PREDICTIONS

ARRAYS = (
    "names",
    "labels",
    "classes",
    "probabilities",
    "label_probabilities",
    "class_names",
)
NUMBERS = ("loss", "top1_error", "top5_error", "examples", "views")  # of a split, in eval.json
EVALUATE_AGAIN = "evaluate the run again, which writes it anew"


@dataclass(frozen=True, eq=False)
class Predictions:
    """The likeliest classes of every picture of an evaluated split, in the order of the split.

    Attributes:
      names: str [N], the pictures' names among the originals, or their positions in the split.
      labels: int32 [N], the true classes.
      classes: int32 [N, K], the likeliest classes, likeliest first; K is 5, or all classes.
      probabilities: float32 [N, K], the probabilities of `classes`.
      label_probabilities: float32 [N], the probability of each picture's true class.
      class_names: str [classes].
      numbers: the content of eval.json.
      data: the settings `config.data` that open the data set.
      checksum: of the data set, as in `data.Dataset`.
    """

    names: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    label_probabilities: np.ndarray
    class_names: np.ndarray
    numbers: Mapping[str, Any]
    data: Mapping[str, Any]
    checksum: str

    @property
    def wrong(self) -> np.ndarray:
        """Returns bool [N]: the pictures whose likeliest class is not the true one."""
        return self.classes[:, 0] != self.labels


def split_of(numbers: Mapping[str, Any]) -> str:
    """Returns the name of the evaluated split from the content of eval.json.

    Its keys are such as test/loss. Raises StopIteration if there is none of this form.
    """
    return next(key.partition("/")[0] for key in numbers if "/" in key)


def read_evaluation(workdir: Path) -> Mapping[str, Any]:
    """Reads eval.json; returns {} if it is missing.

    Raises:
      UserError: it is not as an evaluation writes it.
    """
    path = workdir / EVALUATION
    if not path.is_file():
        return {}
    try:
        numbers = {**json.loads(path.read_text(encoding="utf-8"))}
        split = split_of(numbers)
        for key in ("step", "members", *(f"{split}/{name}" for name in NUMBERS)):
            if not isinstance(numbers.get(key), int | float):
                raise ValueError(f"{key} is no number")
    except StopIteration:
        raise UserError(f"{path} has no errors of a split; {EVALUATE_AGAIN}") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); {EVALUATE_AGAIN}") from error
    return numbers


def open_split(predictions: Predictions) -> Split:
    """Opens the split that was evaluated; raises UserError if it is gone or has changed."""
    dataset = open_dataset(ConfigDict(dict(predictions.data)))
    # The predictions belong to pictures by their position, so these have to be the same pictures.
    if dataset.checksum != predictions.checksum:
        raise UserError("the data set has changed since the evaluation; evaluate the run again")
    return dataset.splits[split_of(predictions.numbers)]


def write_predictions(workdir: Path, predictions: Predictions) -> None:
    """Writes predictions.npz atomically, compressed."""
    about = {
        "numbers": dict(predictions.numbers),
        "data": dict(predictions.data),
        "checksum": predictions.checksum,
    }
    arrays = {name: getattr(predictions, name) for name in ARRAYS}
    with complete_file(workdir / PREDICTIONS) as file:
        # The text is an array of str, which is saved without pickle.
        np.savez_compressed(file, **arrays, about=np.array(json.dumps(about)))


def read_predictions(workdir: Path) -> Predictions | None:
    """Reads predictions.npz; returns None if it is missing, raises UserError if it is broken."""
    path = workdir / PREDICTIONS
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:  # a pickle would run code
            arrays = {name: file[name] for name in ARRAYS}
            about = json.loads(str(file["about"]))
        return Predictions(**arrays, **about)
    except Exception as error:  # a damaged archive makes NumPy and zlib raise a dozen kinds
        raise UserError(f"{path} cannot be read ({error}); {EVALUATE_AGAIN}") from error
