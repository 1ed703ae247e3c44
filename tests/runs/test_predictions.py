"""eval.json and predictions.npz: they are read as written, and broken files are one error."""

import io
import json
import zipfile

import numpy as np
import pytest

from alexnet_jax.errors import UserError
from alexnet_jax.runs.predictions import (
    ARRAYS,
    Predictions,
    read_evaluation,
    read_predictions,
)
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


def test_a_file_with_any_byte_changed_is_read_or_named(tmp_path):
    """Damage in the compressed data, for one, is an error of zlib."""
    write(tmp_path, predictions())
    intact = (tmp_path / PREDICTIONS).read_bytes()
    refused = 0
    for place in range(0, len(intact), 3):
        damaged = bytearray(intact)
        damaged[place] ^= 0x55
        (tmp_path / PREDICTIONS).write_bytes(damaged)
        try:
            read_predictions(tmp_path)
        except UserError:
            refused += 1
    assert refused > len(intact) / 6  # some bytes mean nothing, such as the time of a member


EVALUATION = {
    "step": 7, "members": 1, "data": "digits", "test/loss": 0.5, "test/top1_error": 0.25,
    "test/top5_error": 0.0, "test/examples": 4, "test/views": 1,
}  # fmt: skip


def test_the_numbers_of_an_evaluation_come_back_and_may_be_missing(tmp_path):
    assert read_evaluation(tmp_path) == {}
    (tmp_path / "eval.json").write_text(json.dumps(EVALUATION))
    assert read_evaluation(tmp_path) == EVALUATION


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "cannot be read"),
        ("[1]", "cannot be read"),
        ("{}", "has no errors of a split"),
        (json.dumps({**EVALUATION, "test/top1_error": "1 %"}), "test/top1_error is no number"),
        (json.dumps({k: EVALUATION[k] for k in EVALUATION if k != "test/views"}), "test/views is"),
        (json.dumps({**EVALUATION, "members": None}), "members is no number"),
    ],
)
def test_numbers_that_no_evaluation_writes_are_refused_with_the_file(content, said, tmp_path):
    (tmp_path / "eval.json").write_text(content)
    with pytest.raises(UserError) as error:
        read_evaluation(tmp_path)
    line = str(error.value)
    assert line.startswith(f"{tmp_path / 'eval.json'} ") and said in line
    assert line.endswith("evaluate the run again, which writes it anew")
