"""metrics.jsonl: its cut after a restore, and the best validation in it."""

import json

import pytest

from alexnet_jax.errors import UserError
from alexnet_jax.runs.metrics import Metrics, best_validation, cut_back, read_lines


def training(step):
    return {"step": step, "epoch": step / 10, "time": 1.0, "train/loss": 0.5}


def validation(step):
    return {"step": step, "epoch": step / 10, "time": 1.0, "val/loss": 0.6, "val/examples": 7}


def written(path, *lines, end="\n"):
    path.write_text("\n".join(map(json.dumps, lines)) + end)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_cut_keeps_training_lines_up_to_its_step_and_drops_later_ones(tmp_path):
    path = tmp_path / "metrics.jsonl"
    written(path, *map(training, (10, 20, 30)))
    cut_back(path, 20, -1)
    assert read(path) == [training(10), training(20)]


def test_a_cut_keeps_the_evaluation_of_its_step_only_if_the_state_knows_of_it(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [training(10), validation(10), training(20), validation(20), training(30)]
    written(path, *lines)
    cut_back(path, 20, 20)
    assert read(path) == lines[:4]
    cut_back(path, 20, 10)  # saved at step 20 before it was evaluated: it is going to be
    assert read(path) == lines[:3]


def test_a_cut_to_step_0_leaves_nothing(tmp_path):
    path = tmp_path / "metrics.jsonl"
    written(path, training(1), validation(10))
    cut_back(path, 0, -1)
    assert path.read_text() == ""


def test_a_half_written_last_line_is_dropped_and_the_next_one_stands_alone(tmp_path):
    path = tmp_path / "metrics.jsonl"
    written(path, training(10), training(20), end='\n{"step": 20, "epoch"')
    metrics = Metrics(tmp_path, 20, -1)
    metrics.write(21, 2.1, 3.0, {"train/loss": 0.25})
    metrics.close()
    last = {"step": 21, "epoch": 2.1, "time": 3.0, "train/loss": 0.25}
    assert read(path) == [training(10), training(20), last]


def test_a_cut_leaves_no_other_file_and_a_missing_file_missing(tmp_path):
    cut_back(tmp_path / "metrics.jsonl", 5, -1)
    assert list(tmp_path.iterdir()) == []
    written(tmp_path / "metrics.jsonl", training(1))
    cut_back(tmp_path / "metrics.jsonl", 5, -1)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


# --- the best validation ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errors", "best"),
    [
        ({}, None),
        ({10: 0.5}, (10, 0.5)),
        ({10: 0.5, 20: 0.25, 30: 0.5}, (20, 0.25)),
        ({10: 0.5, 20: 0.25, 30: 0.25}, (20, 0.25)),  # the first, as the checkpoint that is kept
        ({10: 0.0}, (10, 0.0)),
    ],
)
def test_the_best_validation_is_the_first_with_the_lowest_error(tmp_path, errors, best):
    path = tmp_path / "metrics.jsonl"
    validations = [{**validation(step), "val/top1_error": x} for step, x in errors.items()]
    written(path, training(5), *validations)
    assert best_validation(path) == best


def test_without_metrics_there_is_no_best_validation(tmp_path):
    assert best_validation(tmp_path / "metrics.jsonl") is None


BROKEN = [
    "{", "[1]", "null", "\x00", "{}", '{"step": 1, "train/loss": 2.0}',
    '{"step": 1, "epoch": 0.1, "time": 1.0, "train/loss": "2.0"}',
    '{"step": null, "epoch": 0.1, "time": 1.0}',
]  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_line_is_named_and_dropped_on_resume(tmp_path, broken):
    path, good = tmp_path / "metrics.jsonl", training(1)
    path.write_text(f"{json.dumps(good)}\n{broken}\n")
    for read in (read_lines, best_validation):
        with pytest.raises(UserError, match=r"metrics\.jsonl has a broken line .* resume the run"):
            read(path)
    cut_back(path, 1, -1)
    assert read_lines(path) == [good]


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    """Figures and reports are drawn of runs that go on."""
    (tmp_path / "metrics.jsonl").write_text(f'{json.dumps(training(1))}\n{{"step": 2, "tra')
    assert read_lines(tmp_path / "metrics.jsonl") == [training(1)]
