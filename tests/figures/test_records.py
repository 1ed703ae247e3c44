"""Figures of records: what is read from their files, and what is said of damaged ones."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from commands import error_line, run
from PIL import Image

from alexnet_jax.cli import command
from alexnet_jax.errors import UserError
from alexnet_jax.figures import __main__ as figures
from alexnet_jax.figures.activations import draw_activations, fastest, read_activation_runs
from alexnet_jax.figures.plateau import PlateauRun, draw_plateau, read_runs
from alexnet_jax.figures.scaling import draw_scaling, read_scaling
from configs import base


def write_record(folder, record, lines=(), **settings):
    """A record with these lines of metrics, and base.py's settings but for the ones given."""
    folder.mkdir(parents=True)
    config = base.get_config()
    config.model.num_classes = 10
    config.update_from_flattened_dict(settings)
    (folder / "config.json").write_text(config.to_json())
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))


def write_activation(folder, errors, rate, diverged=False):
    lines = [
        {"step": 9 * i, "epoch": i, "time": 1.0, "train/epoch_top1_error": x}
        for i, x in enumerate(errors, 1)
    ]
    write_record(folder, {"diverged": diverged}, lines, **{"optim.learning_rate": rate})


def write_plateau(folder, losses, bias):
    lines = [
        {"step": 10 * i, "epoch": 1.0, "time": 1.0, "train/loss": x}
        for i, x in enumerate(losses, 1)
    ]
    initial = {"model.initial": (("conv4", 0.03, bias),), "data.crop_size": 56}
    write_record(folder, {}, lines, **initial)


def write_scaling(folder, errors):
    for name, error in errors.items():
        write_record(folder / name, {"1_views": {"test/top1_error": error}})


def plateau_run(losses):
    steps = 10 * np.arange(1, len(losses) + 1)
    return PlateauRun(10, 56, 0.03, 1.0, steps, np.array(losses))


def test_a_run_leaves_chance_where_its_averaged_loss_stays_below():
    chance = math.log(10)
    stuck = plateau_run([chance] * 30)
    assert stuck.left_at is None
    # Five lines are averaged. The mean falls 1 % below ln(10) with the first line of half of it,
    # and stays there.
    left = plateau_run([chance] * 20 + [chance / 2] * 10)
    assert left.left_at == 210
    returned = plateau_run([chance] * 5 + [chance / 2] * 5 + [chance] * 20)
    assert returned.left_at is None


def test_each_activation_is_drawn_at_its_fastest_rate(tmp_path):
    """The lowest error counts down to 25 %, then the fewest epochs; a diverged run does not."""
    ends = {
        "relu_published_0.001": ([0.5, 0.3, 0.24], False),
        "relu_published_0.003": ([0.4, 0.25], False),
        "tanh_published_0.001": ([0.6, 0.5, 0.4], False),
        "tanh_published_0.003": ([0.6, 0.5, 0.3], False),
        "tanh_published_0.01": ([0.1], True),
    }
    for name, (errors, diverged) in ends.items():
        write_activation(tmp_path / name, errors, float(name.rsplit("_", 1)[1]), diverged)
    best = fastest(read_activation_runs(tmp_path))
    rates = {key: run.rate for key, run in best.items()}
    assert rates == {("published", "relu"): 0.003, ("published", "tanh"): 0.003}
    (axes,) = draw_activations(read_activation_runs(tmp_path)).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines[1:]}
    assert drawn == {
        "ReLU, rate 0.003, seeds: 1": [40, 25],
        "tanh, rate 0.003, seeds: 1": [60, 50, 30],
    }


def test_errors_are_drawn_against_width_and_fraction_of_the_pictures(tmp_path):
    errors = {
        "scaling/width_0.25_seed0": 0.8,
        "scaling/width_0.25_seed1": 0.9,
        "scaling/pictures_50_seed0": 0.7,
        "ablations/reference_seed0": 0.5,
        "ablations/tanh_seed0": 0.6,
    }
    write_scaling(tmp_path, errors)
    found = read_scaling(tmp_path)
    assert found == {"width": {0.25: [80, 90], 0.5: [50]}, "pictures": {0.1: [70], 1.0: [50]}}
    width, pictures = draw_scaling(found).axes
    assert list(width.lines[0].get_xdata()) == [0.25, 0.5]
    assert list(width.lines[0].get_ydata()) == [85, 50]
    assert list(pictures.lines[0].get_ydata()) == [70, 50]


@pytest.mark.parametrize(
    ("errors", "missing"),
    [({}, "scaling"), ({"scaling/width_0.25_seed0": 0.8}, "ablations")],
)
def test_without_records_of_scaling_an_error_says_how_to_make_them(tmp_path, errors, missing):
    write_scaling(tmp_path, errors)
    with pytest.raises(UserError, match=f"{missing} has no records; make them with launch"):
        read_scaling(tmp_path)


def test_a_record_of_something_else_is_no_record_of_the_plateau(tmp_path):
    write_record(tmp_path / "digits", {})
    with pytest.raises(UserError, match="digits is no record of the plateau"):
        read_runs(tmp_path)


def test_the_plateau_is_drawn_for_a_bias_that_no_record_here_has(tmp_path):
    write_plateau(tmp_path / "run", [2.3] * 6, 0.5)
    (axes,) = draw_plateau(read_runs(tmp_path)).axes
    assert "std 0.03, bias 0.5" in [line.get_label() for line in axes.lines]


@pytest.mark.slow
def test_the_plateau_is_drawn_from_records(tmp_path):
    for bias, losses in ((1.0, [2.3] * 20), (0.1, [2.3] * 5 + [1.0] * 15)):
        write_plateau(tmp_path / f"bias_{bias}", losses, bias)
    runs = read_runs(tmp_path)
    assert [(run.bias, run.left_at) for run in runs] == [(1.0, None), (0.1, 60)]
    assert len(draw_plateau(runs).axes) == 1
    others = [replace(runs[0], classes=classes) for classes in (10, 50, 200)]
    assert [axes.axison for axes in draw_plateau(others).axes] == [True, True, True, False]
    done = run("figures", f"--plateau={tmp_path}")
    assert done.stdout.splitlines()[0] == str(tmp_path / "plateau.png")
    with Image.open(tmp_path / "plateau.png") as picture:
        assert min(picture.size) > 300


@pytest.mark.parametrize(
    ("read", "write", "name"),
    [
        (read_activation_runs, lambda x: write_activation(x, [0.5], 0.01), "relu_fan_in_seed0"),
        (read_runs, lambda x: write_plateau(x, [2.3], 0.1), "plateau"),
    ],
    ids=["activations", "plateau"],
)
@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", '{"optim": {"learn', "config.json cannot be read"),
        ("config.json", '{"model": {"initial": 3}}', "config.json cannot be read"),
        ("metrics.jsonl", "", "has no lines yet"),
        ("metrics.jsonl", '{"step": 1, "epoch": 1, "time": 1}\n', "has no line with train/"),
        ("metrics.jsonl", "half a line\n", "has a broken line"),
    ],
)
def test_a_damaged_record_is_named(tmp_path, read, write, name, file, content, said):
    write(tmp_path / name)
    read(tmp_path)
    (tmp_path / name / file).write_text(content)
    with pytest.raises(UserError, match=f"{name}.*{said}"):
        read(tmp_path)


@pytest.mark.parametrize(
    "content", ['{"diverged": fa', "[]", "{}", '{"diverged": null}', '{"1_views": {}}', b"\xff"]
)
def test_a_damaged_run_json_is_named(tmp_path, content):
    write_activation(tmp_path / "relu_fan_in_seed0", [0.5], 0.01)
    write_scaling(tmp_path, {"scaling/width_1_seed0": 0.5, "ablations/reference_seed0": 0.5})
    for name in ("relu_fan_in_seed0", "scaling/width_1_seed0"):
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name / "run.json").write_bytes(content)
    with pytest.raises(UserError, match=r"run\.json has no diverged .*evidence\.py"):
        read_activation_runs(tmp_path)
    with pytest.raises(UserError, match=r"run\.json has no 1_views test/top1_error"):
        read_scaling(tmp_path)


def test_curves_without_a_line_are_not_drawn(tmp_path):
    write_record(tmp_path / "record", {})
    values = command.parse(["figures", f"--curves={tmp_path}/record"], figures.define_flags)
    with pytest.raises(UserError, match=r"record/metrics\.jsonl has no lines yet"):
        figures.main(values)
    assert not (tmp_path / "record" / "curves.png").exists()


def test_the_command_reports_a_damaged_record_in_one_line(tmp_path):
    (tmp_path / "relu_fan_in_seed0").mkdir()
    (tmp_path / "relu_fan_in_seed0/run.json").write_text("{")
    done = run("figures", f"--activations={tmp_path}", code=2)
    assert "relu_fan_in_seed0/run.json has no diverged" in error_line(done)
