"""predictions.npz: it comes back as it was written, and broken files are one error."""

import io
import zipfile

import numpy as np
import pytest

from alexnet_jax.errors import UserError
from alexnet_jax.runs.predictions import ARRAYS, Predictions, read_predictions
from alexnet_jax.runs.predictions import write_predictions as write
from alexnet_jax.runs.workdir import PREDICTIONS


def predictions():
    return Predictions(
        names=np.array(["test/a/é 1.png", "test/b/2.png", "test/b/3.png"]),
        labels=np.array([0, 1, 1], np.int32),
        classes=np.array([[0, 1], [1, 0], [0, 1]], np.int32),
        probabilities=np.array([[0.75, 0.25], [0.5, 0.5], [0.875, 0.125]], np.float32),
        label_probabilities=np.array([0.75, 0.5, 0.125], np.float32),
        class_names=np.array(["a", "b"]),
        numbers={"step": 7, "test/top1_error": 1 / 3},
        data={"name": "folder", "dir": "x", "augment": {"flip": True}},
        checksum="12ab",
    )


def test_predictions_come_back_as_they_were(tmp_path):
    write(tmp_path, predictions())
    found = read_predictions(tmp_path)
    for name in ARRAYS:
        written = getattr(predictions(), name)
        np.testing.assert_array_equal(getattr(found, name), written)
        assert getattr(found, name).dtype == written.dtype
    assert found.numbers == predictions().numbers
    assert (found.data, found.checksum) == (predictions().data, "12ab")
    assert found.wrong.tolist() == [False, False, True]
    assert [path.name for path in tmp_path.iterdir()] == [PREDICTIONS]


def test_a_folder_without_predictions_has_none(tmp_path):
    assert read_predictions(tmp_path) is None


def other_arrays():
    file = io.BytesIO()
    np.savez(file, labels=np.zeros(3))
    return file.getvalue()


def cut_short(folder):
    write(folder, predictions())
    return (folder / PREDICTIONS).read_bytes()[:-100]


def with_objects():
    """An archive whose names would have to be unpickled."""
    file, member = io.BytesIO(), io.BytesIO()
    np.save(member, np.array([{}], object), allow_pickle=True)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("names.npy", member.getvalue())
    return file.getvalue()


@pytest.mark.parametrize("kind", ["empty", "text", "other arrays", "cut short", "objects"])
def test_a_broken_file_is_named_with_the_mend(tmp_path, kind):
    contents = {
        "empty": b"",
        "text": b"no archive",
        "other arrays": other_arrays(),
        "cut short": cut_short(tmp_path),
        "objects": with_objects(),
    }
    (tmp_path / PREDICTIONS).write_bytes(contents[kind])
    with pytest.raises(UserError, match=r"predictions\.npz cannot be read .*evaluate the run"):
        read_predictions(tmp_path)
