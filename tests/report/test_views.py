"""The parts of the page against hand-worked values."""

import base64
import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from alexnet_jax.convert import write_workdir
from alexnet_jax.report.comparison import duration, shared_errors
from alexnet_jax.report.embedded_images import SMALL, THUMBNAIL, thumbnail_uri
from alexnet_jax.report.evaluation_view import RIGHT, WRONG, cells_of, class_rows, heat_map
from alexnet_jax.report.page import page
from alexnet_jax.report.run_facts import read_run
from alexnet_jax.runs.predictions import Predictions
from configs.base import get_config

MATRIX = np.array([[3, 1, 0], [0, 0, 0], [4, 5, 0]])


def test_a_cell_is_as_strong_as_the_root_of_its_share_of_the_row():
    cells = cells_of(MATRIX)
    assert [cell.count for cell in cells[0]] == [3, 1, 0]
    assert [cell.strength for cell in cells[0]] == [pytest.approx(0.75**0.5), 0.5, 0]
    assert [cell.strength for cell in cells[1]] == [0, 0, 0]  # no pictures, no division by zero
    assert [cell.right for cell in cells[2]] == [False, False, True]


def test_the_heat_map_is_blue_on_the_diagonal_and_red_beside_it():
    found = heat_map(MATRIX)
    assert found.shape == (3, 3, 4) and found.dtype == np.uint8
    assert found[0, 0].tolist() == [*RIGHT, round(255 * 0.75**0.5)]
    assert found[0, 1].tolist() == [*WRONG, 128]
    assert (found[1, :, 3] == 0).all() and found[0, 2, 3] == 0


def test_classes_are_listed_by_their_error_with_what_they_are_taken_for():
    rows = class_rows(MATRIX, ["a", "b", "c"])
    found = [(row.name, row.pictures, row.error, row.taken_for) for row in rows]
    assert found == [("c", 9, 1.0, "b (5)"), ("a", 4, 0.25, "b (1)")]  # b has no pictures


def picture_of(uri):
    kind, _, content = uri.partition(";base64,")
    return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_a_small_picture_is_embedded_as_it_is_and_a_large_one_is_reduced():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (SMALL, SMALL, 3), np.uint8)
    kind, found = picture_of(thumbnail_uri(small))
    assert kind == "data:image/png"
    np.testing.assert_array_equal(found, small)
    large = np.full((256, 256, 3), (200, 100, 50), np.uint8)
    kind, found = picture_of(thumbnail_uri(large))
    assert kind == "data:image/jpeg" and found.shape == (THUMBNAIL, THUMBNAIL, 3)
    assert np.abs(found.astype(int) - large[0, 0]).max() <= 3


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 0 s"),
        (83, "1 min 23 s"),
        (7503, "2 h 5 min"),
        (9e5, "250 h 0 min"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds, words):
    assert duration(seconds) == words


def test_a_net_without_convolutions_has_a_report_without_kernels(tmp_path):
    config = get_config()
    config.model.update(name="four_layer", width=1.0, num_classes=10)
    config.model.without = ("conv1", "conv2", "conv3")
    config.data.input_mean = (0.0, 0.0, 0.0)
    write_workdir(tmp_path, config, {}, np.zeros(3, np.float32))
    html = page([read_run("run", tmp_path)])
    assert "This net has no convolutions." in html
    assert "Kernels of tower" not in html


@pytest.mark.slow
def test_running_averages_are_no_parameters(tmp_path):
    """conv1 of 3 maps a tower: 11²·3·6 weights, 6 scales, 6 biases; its averages do not count."""
    config = get_config()
    config.model.update(name="alexnet_batch_norm", width=1 / 16, num_classes=10)
    config.model.without = ("conv2", "conv3", "conv4", "conv5", "norm2", "norm3", "norm4", "norm5")
    config.data.input_mean = (0.0, 0.0, 0.0)
    write_workdir(tmp_path, config, {}, np.zeros(3, np.float32))
    dense = (6 * 256 + 256) + (256 * 256 + 256) + (256 * 10 + 10)
    assert read_run("run", tmp_path).parameters == 11 * 11 * 3 * 6 + 6 + 6 + dense


def validated(label, guesses, labels):
    """A run that was evaluated on the validation split of one data set."""
    columns = {"classes": np.array(guesses)[:, None], "labels": np.array(labels)}
    columns |= dict.fromkeys(("names", "probabilities", "label_probabilities", "class_names"))
    about = {"numbers": {"val/loss": 1.0}, "data": {}, "checksum": "same"}
    return SimpleNamespace(label=label, predictions=Predictions(**columns, **about))


def test_shared_mistakes_are_counted_on_the_same_pictures_only():
    runs = [validated("a", [1, 1, 0, 1], [0, 0, 0, 1]), validated("b", [1, 0, 1, 1], [0, 0, 0, 1])]
    rows = [(row.name, row.values) for row in shared_errors(runs)]
    assert rows == [("a", ("2", "1")), ("b", ("1", "2"))]
    # Another data.val_fraction holds out another number of pictures.
    assert shared_errors([runs[0], validated("c", [1, 0], [0, 0])]) == []
