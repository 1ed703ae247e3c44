"""Figures: the numbers behind them by hand, and the command on a real run."""

import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from commands import SMALL, error_line, run
from PIL import Image

from alexnet_jax.cli import command
from alexnet_jax.data import open_dataset
from alexnet_jax.errors import UserError
from alexnet_jax.figures import __main__ as figures_command
from alexnet_jax.figures.__main__ import figures_of_run
from alexnet_jax.figures.architecture import draw_net
from alexnet_jax.figures.curves import draw_curves, rate_drops, read_metrics, series
from alexnet_jax.figures.kernels import (
    colour_fraction,
    draw_blocks,
    mosaic,
    orientation_selectivity,
    read_kernels,
    to_pictures,
)
from alexnet_jax.figures.predictions import chosen, draw_predictions
from alexnet_jax.nets.shapes import array_shapes
from alexnet_jax.nets.variants import published, resolve
from alexnet_jax.nets.zoo import NETS
from alexnet_jax.runs.predictions import Predictions, read_predictions, write_predictions
from alexnet_jax.weights.hub import hub_files
from alexnet_jax.weights.trained_net import TrainedNet
from configs import base


def test_series_takes_only_lines_that_have_the_key():
    lines = [{"epoch": 1, "a": 2}, {"epoch": 2}, {"epoch": 3, "a": 4}]
    assert series(lines, "a") == ([1, 3], [2, 4])


def test_rate_drops_are_the_epochs_of_lower_rates():
    rates = ((1, 0.01), (2, 0.01), (3, 0.001), (4, 0.001), (5, 0.0001))
    lines = [{"epoch": epoch, "train/learning_rate": rate} for epoch, rate in rates]
    assert rate_drops(lines) == [(3, 0.001), (5, 0.0001)]


def test_the_curves_of_a_record_are_drawn_beside_it(tmp_path):
    record = tmp_path / "claim" / "seed0"
    record.mkdir(parents=True)
    config = base.get_config()
    config.model.num_classes = 10
    (record / "config.json").write_text(config.to_json())
    rates = ((1, 0.01), (2, 0.01), (3, 0.001), (4, 0.001), (5, 0.0001))
    losses = {"time": 1.0, "train/loss": 1.5, "train/top1_error": 0.5}
    lines = [{"step": x, "epoch": x, "train/learning_rate": rate, **losses} for x, rate in rates]
    (record / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    figure = draw_curves(read_metrics(record), "")
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words == ["rate 0.001", "rate 0.0001"]
    # A run without validation has no line for it in the legend.
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["training, one batch"]
    drawn(f"--curves={record}")
    assert not_blank(record / "curves.png")


def test_zero_weights_are_mid_grey_and_the_largest_is_white():
    kernels = np.zeros((2, 2, 3, 2))
    kernels[0, 1, 2, 0] = 4.0
    pictures = to_pictures(kernels)
    assert pictures.shape == (2, 2, 2, 3)
    assert pictures[0, 0, 1, 2] == 1.0
    assert pictures[0, 0, 0, 0] == pictures[1, 1, 1, 1] == 0.5


def test_colour_is_what_a_grey_picture_does_not_meet():
    kernels = np.zeros((2, 2, 3, 3))
    kernels[0, 0, :, 0] = 2.0, 2.0, 2.0
    kernels[1, 0, :, 1] = 1.0, -1.0, 0.0
    kernels[1, 1, :, 2] = 3.0, 0.0, 0.0  # grey 1, 1, 1 and colour 2, −1, −1: 6 of 9
    np.testing.assert_allclose(colour_fraction(kernels), [0.0, 1.0, 2 / 3])
    random = np.random.default_rng(0).normal(size=(11, 11, 3, 500))
    assert colour_fraction(random).mean() == pytest.approx(2 / 3, abs=0.01)


def test_orientation_selectivity_of_gratings_their_sum_a_blob_and_a_flat_kernel() -> None:
    wave = np.cos(2 * np.pi * 3 * np.arange(11) / 11)
    upright = np.broadcast_to(wave[None, :], (11, 11))
    square = np.arange(11) - 5.0
    blob = np.exp(-(square[:, None] ** 2 + square**2) / 8)
    slanted = np.cos(2 * np.pi * (2 * np.arange(11)[:, None] + 3 * np.arange(11)) / 11)
    flat = np.ones((11, 11))
    planes = [upright, upright.T, slanted, upright + upright.T, blob, flat]
    kernels = np.stack([np.stack([plane, -plane, 2 * plane], -1) for plane in planes], -1)
    expected = [1, 1, 1, 0, 0, 0]
    np.testing.assert_allclose(orientation_selectivity(kernels), expected, atol=1e-12)


def test_the_true_class_has_its_own_colour_and_every_bar_its_probability():
    dataset = open_dataset(base.get_config().data)
    labels = np.asarray(dataset.splits["test"].labels)
    ranks = np.arange(10)[None, :5] + labels[:, None] - 1
    predictions = Predictions(
        names=np.arange(len(labels)).astype(str),
        labels=labels,
        classes=ranks % 10,
        probabilities=np.tile(np.array([0.5, 0.2, 0.1, 0.05, 0.02], np.float32), (len(labels), 1)),
        label_probabilities=np.full(len(labels), 0.2, np.float32),
        class_names=np.array([f"digit {i}" for i in range(10)]),
        numbers={"test/top1_error": 1.0},
        data=base.get_config().data.to_dict(),
        checksum=dataset.checksum,
    )
    figure = draw_predictions(predictions)
    bars = [axes for axes in figure.axes if axes.patches]
    assert len(bars) == 8
    for axes, position in zip(bars, chosen(len(labels)), strict=True):
        widths = [bar.get_width() for bar in axes.patches]
        np.testing.assert_allclose(widths, [0.5, 0.2, 0.1, 0.05, 0.02])
        colours = [bar.get_facecolor() for bar in axes.patches]
        assert [colours.count(colour) for colour in colours] == [4, 1, 4, 4, 4]
        words = [text.get_text() for text in axes.texts][::2]  # a percentage follows each name
        assert words[1] == f"digit {labels[position]}"


def drawn(*arguments):
    """Calls the command in this process."""
    values = command.parse(["figures", *arguments], figures_command.define_flags)
    assert figures_command.main(values) == 0


def not_blank(path):
    """True if a picture is more than white."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L")).std() > 5


def test_the_kernels_of_a_record_and_of_a_folder_of_records_are_drawn_by_tower(tmp_path):
    """A net with two towers, of which the second is red, and one with a single tower."""
    kernels = np.ones((2, 5, 5, 3, 4), np.float16)
    kernels[1, ..., 1:, :] = 0
    for name, kernel in (("two_seed0", kernels), ("one_seed0", kernels[:1])):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "kernels.npz", conv1=kernel)
    towers = (
        "two seed0, tower 1 of 2: 0 % colour, orientation selectivity 0.00",
        "two seed0, tower 2 of 2: 100 % colour, orientation selectivity 0.00",
    )
    one = "one seed0, tower 1 of 1: 0 % colour, orientation selectivity 0.00"
    both, alone = read_kernels(tmp_path), read_kernels(tmp_path / "two_seed0")
    assert tuple(both) == (one, *towers) and tuple(alone) == towers
    np.testing.assert_array_equal(alone[towers[1]], kernels[1])
    titles = [axes.get_title(loc="left") for axes in draw_blocks(both, "kernels").axes]
    assert titles == [one, *towers]
    drawn(f"--kernels={tmp_path}")
    drawn(f"--kernels={tmp_path / 'two_seed0'}")
    assert not_blank(tmp_path / "kernels.png") and not_blank(tmp_path / "two_seed0/kernels.png")
    with pytest.raises(UserError, match=r"has no kernels\.npz, nor have the folders in it"):
        read_kernels(tmp_path.parent / "none")


def test_a_record_of_kernels_that_is_damaged_is_named(tmp_path):
    for content in (b"", b"PK\x03\x04 and no more"):
        (tmp_path / "kernels.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"kernels\.npz cannot be read"):
            read_kernels(tmp_path)
    for name, shape in (("conv2", (1, 5, 5, 3, 4)), ("conv1", (5, 5, 3, 4))):
        np.savez(tmp_path / "kernels.npz", **{name: np.ones(shape)})
        with pytest.raises(UserError, match=r"kernels\.npz has no conv1 \[towers"):
            read_kernels(tmp_path)


def test_a_record_with_dollar_signs_in_its_name_is_no_formula(tmp_path):
    record = tmp_path / "$\\bad{$"
    record.mkdir()
    np.savez(record / "kernels.npz", conv1=np.ones((1, 5, 5, 3, 4)))
    drawn(f"--kernels={record}")
    assert not_blank(record / "kernels.png")


def test_a_published_net_is_drawn_by_its_name(tmp_path):
    drawn("--net=cuda_convnet_18pct", f"--output={tmp_path}")
    assert not_blank(tmp_path / "cuda_convnet_18pct.png")
    assert (tmp_path / "cuda_convnet_18pct.svg").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--net=alexnet"], "--net=alexnet needs --output"),
        (["--output=out"], "nothing to draw"),
        (
            # Before the figures of the record, which would be written.
            ["--plateau=none", "--net=alexnot", "--output=out"],
            "--net=alexnot is unknown; choose from alexnet, ",
        ),
        (["--plateau=results/plateau", "--labels=a.txt"], "--labels=a.txt needs --workdir"),
        (["--plateau=results/plateau", "--output=out"], "--output=out needs --net"),
    ],
)
def test_flags_that_do_not_go_together_are_an_error(arguments, message):
    with pytest.raises(UserError, match=re.escape(message)):
        drawn(*arguments)


def test_mosaic_lays_pictures_out_row_by_row_with_white_gaps():
    pictures = np.stack([np.full((2, 2, 3), value) for value in (0.1, 0.2, 0.3)])
    sheet = mosaic(pictures, columns=2)
    assert sheet.shape == (5, 5, 3)
    assert sheet[0, 0, 0] == 0.1 and sheet[0, 3, 0] == 0.2 and sheet[3, 0, 0] == 0.3
    assert (sheet[2] == 1).all() and (sheet[3:, 3:] == 1).all()


@pytest.mark.parametrize("name", NETS)
def test_every_net_can_be_drawn(name):
    net = published(name, num_classes=10)
    figure = draw_net(net, name)
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    names = [x.name for x in net.layers if hasattr(x, "std")]
    assert [word.split("\n")[0] for word in words if word.split("\n")[0] in names] == names


@pytest.mark.parametrize(
    ("without", "metrics", "figures"),
    [
        (("conv1", "conv4", "fc7"), True, ("kernels", "net")),
        (("conv1", "conv2", "conv3", "conv4", "conv5"), False, ("net",)),
    ],
)
def test_a_net_without_conv1_shows_the_kernels_of_its_first_convolution(
    tmp_path, without, metrics, figures
):
    config = base.get_config()
    config.model.update(width=1 / 16, num_classes=10, without=without)
    config.data.crop_size = 32
    net, rng, params = resolve(config.model, 32), np.random.default_rng(0), {}
    for (layer, name), sides in array_shapes(net).items():
        params.setdefault(layer, {})[name] = rng.normal(size=sides)
    trained = TrainedNet(net, params, config, np.zeros(3), ())
    for name, content in hub_files(trained, {}, "mit").items():
        (tmp_path / name).write_bytes(content)
    if metrics:  # of a run that was stopped before its first line
        (tmp_path / "metrics.jsonl").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        names = {path.name for path in figures_of_run(tmp_path)}
    # No curves.
    assert names == {f"{x}.{y}" for x in figures for y in ("png", "svg")}


def test_a_checkpoint_is_no_workdir_and_nothing_is_written_into_it(tmp_path):
    step = tmp_path / "checkpoints" / "7"
    step.mkdir(parents=True)
    values = command.parse(["figures", f"--workdir={step}"], figures_command.define_flags)
    with pytest.raises(
        UserError, match=f"is a checkpoint of the run in {tmp_path}; give a workdir"
    ):
        figures_command.main(values)
    assert not any(step.iterdir())


@pytest.mark.slow
def test_a_run_gets_curves_kernels_its_net_and_predictions(tmp_path):
    """Without the pictures that were evaluated, all but the last."""
    run("main", *SMALL, "--config.train.steps=9", f"--workdir={tmp_path}")
    run("main", f"--workdir={tmp_path}", "--mode=eval")
    assert "of step" not in run("figures", f"--workdir={tmp_path}").stdout
    names = ["curves", "kernels", "net", "predictions"]
    written = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert written == sorted(f"{name}.{kind}" for name in names for kind in ("png", "svg"))
    for name in names:
        assert not_blank(tmp_path / "figures" / f"{name}.png")
    (tmp_path / "labels.txt").write_text("".join(f"figure {i}\n" for i in range(10)))
    run("figures", f"--workdir={tmp_path}", f"--labels={tmp_path / 'labels.txt'}")
    # The words of an SVG are paths, each with a comment that says what they spell.
    assert "<!-- figure " in (tmp_path / "figures" / "predictions.svg").read_text()
    found = read_predictions(tmp_path)
    older = {**found.numbers, "step": 5}
    write_predictions(tmp_path, replace(found, checksum="of other pictures", numbers=older))
    done = run("figures", f"--workdir={tmp_path}")
    assert "the predictions are of step 5, the kernels of step 9" in done.stdout
    assert "predictions are not drawn: the data set has changed" in done.stdout


@pytest.mark.slow
def test_a_folder_without_a_checkpoint_is_one_error_line(tmp_path):
    assert "no checkpoint in" in error_line(run("figures", f"--workdir={tmp_path}", code=2))
    assert "nothing to draw" in error_line(run("figures", code=2))
