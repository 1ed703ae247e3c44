"""Converted weights compute what they computed where they came from."""

import json
from functools import partial

import jax
import numpy as np
import pytest
import weight_files
from commands import TOP
from commands import run as run_command
from conversions import CASES, convert_to, run_convert
from foreign_nets import (
    BLOBS,
    CLASSES,
    OF_CAFFE,
    STATE,
    caffe,
    caffe_keys,
    drawn,
    shapes_of,
    torchvision,
)
from small_disk import files_up_to

import alexnet_jax
from alexnet_jax import main
from alexnet_jax.cli import checks, command
from alexnet_jax.data import open_dataset
from alexnet_jax.errors import UserError
from alexnet_jax.nets.variants import resolve
from alexnet_jax.nets.zoo import NETS
from alexnet_jax.runs import workdir
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.train.session import abstract_session, open_session
from alexnet_jax.train.start import restore_or_init
from alexnet_jax.weights.layouts import LAYOUTS, expected_shapes
from alexnet_jax.weights.loading import class_names
from configs import base

FORWARD = {
    "caffe_alexnet": lambda image: caffe(image, BLOBS, norm_first=True),
    "caffenet": lambda image: caffe(image, BLOBS, norm_first=False),
    "one_weird_trick": lambda image: torchvision(image, STATE),
}


# --- right weights ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_net_that_the_weights_come_from(name, workdirs):
    model, variables, config = alexnet_jax.load(workdirs[name])
    crop = config.data.crop_size
    images = np.random.default_rng(5).integers(0, 256, (1, crop, crop, 3)).astype(np.uint8)
    expected = np.stack([FORWARD[name](image) for image in images])
    pixels = (images - variables["input"]["mean"]) * variables["input"]["scale"]
    logits, ends = jax.jit(model.apply)(variables, pixels)
    assert all(np.abs(value).max() > 0 for value in ends.values())
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def test_the_two_nets_of_caffe_differ():
    """Guards the test above."""
    image = np.random.default_rng(5).integers(0, 256, (227, 227, 3)).astype(np.uint8)
    one, other = FORWARD["caffe_alexnet"](image), FORWARD["caffenet"](image)
    assert np.abs(one - other).max() > 1e-3 * np.abs(one).max()


@pytest.mark.parametrize(("name", "crop"), [("caffe_alexnet", 227), ("one_weird_trick", 224)])
def test_the_workdir_is_like_a_runs(name, crop, workdirs):
    assert workdir.good_step(workdirs[name]) == 0
    config = json.loads((workdirs[name] / "config.json").read_text())
    assert config["model"]["name"] == name and config["model"]["width"] == 1 / 16
    assert config["model"]["num_classes"] == CLASSES
    assert config["data"]["name"] == "imagenet2012"
    assert config["data"]["image_size"] == 256 and config["data"]["crop_size"] == crop
    model, variables, _ = alexnet_jax.load(workdirs[name] / "checkpoints" / "0")
    assert model.net == resolve(workdir.read_config(workdirs[name]).model, crop)
    assert variables["params"]["fc8"]["bias"].shape == (1, CLASSES)


def test_numbers_are_moved_and_never_rescaled(workdirs):
    for name, (_, arrays, *_) in CASES.items():
        _, variables, _ = alexnet_jax.load(workdirs[name])
        ours = [x.ravel() for x in jax.tree.leaves(variables["params"])]
        theirs = [x.ravel() for x in arrays.values()]
        np.testing.assert_array_equal(
            np.sort(np.concatenate(ours)), np.sort(np.concatenate(theirs))
        )


SYNTHETIC = (
    "--config=configs/base.py",
    "--config.data.name=synthetic",
    "--config.data.synthetic_images=2",
    f"--config.data.synthetic_classes={CLASSES}",
    "--config.data.image_size=256",
    "--config.data.batch_size=2",
    "--config.eval.batch_size=2",
)


def flags_of_main(*arguments):
    return command.parse(["main", *SYNTHETIC, *arguments], main.define_flags, with_config=True)


def test_main_evaluates_it(tmp_path, workdirs):
    checkpoint = f"--checkpoint={workdirs['one_weird_trick']}"
    assert main.main(flags_of_main("--mode=eval", checkpoint, f"--workdir={tmp_path}")) == 0
    found = json.loads((tmp_path / "eval.json").read_text())
    assert found["step"] == 0 and np.isfinite(found["test/loss"])


@pytest.mark.slow
def test_main_trains_on_from_it(tmp_path, workdirs):
    settings = (
        "model.name=one_weird_trick",
        "model.width=0.0625",
        "data.crop_size=224",
        f"data.input_scale={LAYOUTS['torchvision'].scale}",
        f"init_from={workdirs['one_weird_trick']}",
    )
    arguments = [f"--config.{x}" for x in settings]
    config = checks.check(flags_of_main(*arguments, f"--workdir={tmp_path}")).config
    dataset = open_dataset(config.data)
    with Checkpoints(tmp_path, 1) as checkpoints:
        session, state, _ = restore_or_init(open_session(config, dataset), checkpoints, dataset)
    _, expected, _ = alexnet_jax.load(workdirs["one_weird_trick"])
    jax.tree.map(np.testing.assert_array_equal, state.params, expected["params"])
    np.testing.assert_array_equal(session.stats.mean, expected["input"]["mean"])
    assert int(state.step) == 0


def test_main_does_not_train_in_its_workdir(workdirs):
    """It is another run's, and says so."""
    with pytest.raises(UserError, match=r"another config.*give another --workdir"):
        checks.check(flags_of_main(f"--workdir={workdirs['one_weird_trick']}"))


def test_a_whole_training_state_is_there(workdirs):
    session = abstract_session(workdir.read_config(workdirs["one_weird_trick"]))
    with Checkpoints(workdirs["one_weird_trick"], 1) as checkpoints:
        restored = checkpoints.restore(session.initial_state.eval_shape())
    assert int(restored.state.step) == 0 and restored.record.data is None
    assert not any(np.any(x) for x in jax.tree.leaves(restored.state.opt_state))


def full_width(model):
    config = base.get_config()
    config.model.update(name=model, width=1.0, num_classes=1000)
    return resolve(config.model, NETS[model].crop)


# Caffe's train_val.prototxt and torchvision's state_dict: [out, in ÷ groups, rows, columns].
PUBLISHED_SHAPES = {
    "caffe": {
        "conv1/0": (96, 3, 11, 11), "conv2/0": (256, 48, 5, 5), "conv3/0": (384, 256, 3, 3),
        "conv4/0": (384, 192, 3, 3), "conv5/0": (256, 192, 3, 3),
        "fc6/0": (4096, 9216), "fc7/0": (4096, 4096), "fc8/0": (1000, 4096),
    },
    "torchvision": {
        "features.0.weight": (64, 3, 11, 11), "features.3.weight": (192, 64, 5, 5),
        "features.6.weight": (384, 192, 3, 3), "features.8.weight": (256, 384, 3, 3),
        "features.10.weight": (256, 256, 3, 3), "classifier.1.weight": (4096, 9216),
        "classifier.4.weight": (4096, 4096), "classifier.6.weight": (1000, 4096),
    },
}  # fmt: skip
PARAMETERS = {"caffe": 60_965_224, "torchvision": 61_100_840}


@pytest.mark.parametrize("name", PUBLISHED_SHAPES)
def test_at_full_width_the_expected_shapes_are_the_published_ones(name):
    layout = LAYOUTS[name]
    for model in layout.nets:
        shapes = expected_shapes(layout, full_width(model))
        assert {k: v for k, v in shapes.items() if len(v) > 1} == PUBLISHED_SHAPES[name]
        assert sum(np.prod(shape) for shape in shapes.values()) == PARAMETERS[name]


# --- other nets, and parts of a file ---------------------------------------------------------


@pytest.mark.parametrize("model", ["alexnet", "alexnet_original"])
def test_another_net_of_the_same_shapes_takes_the_weights(model, tmp_path, capsys, workdirs):
    case = (weight_files.npz, BLOBS, "--layout=caffe", f"--model={model}")
    converted = convert_to(tmp_path / "x", *case)
    printed = capsys.readouterr().out
    assert all(len(line) <= 80 for line in printed.splitlines() if str(tmp_path) not in line)
    out = " ".join(printed.split())
    assert f"note: {model} is not caffe_alexnet, it computes differently: crop=224 instead" in out
    assert "k=2.0 instead of 1.0" in out and "drop6, drop7: inverted=False instead of True" in out
    _, variables, config = alexnet_jax.load(converted)
    assert config.model.name == model and config.data.crop_size == 224
    _, expected, _ = alexnet_jax.load(workdirs["caffe_alexnet"])
    jax.tree.map(np.testing.assert_array_equal, variables["params"], expected["params"])


ORDERS = {  # of the layers in Caffe's two published files, whose weights have the same shapes
    "caffe_alexnet": "conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2",
    "caffenet": "conv1 relu1 pool1 norm1 conv2 relu2 pool2 norm2",
}
REST = "conv3 relu3 conv4 relu4 conv5 relu5 pool5 fc6 relu6 drop6 fc7 relu7 drop7 fc8 prob"


@pytest.mark.parametrize("writer", [weight_files.caffemodel, weight_files.caffemodel_of_2013])
@pytest.mark.parametrize("name", ORDERS)
def test_the_order_of_the_layers_in_a_caffemodel_names_the_net(name, writer, tmp_path, capsys):
    """fc8_flickr's net is caffenet, whose weights in caffe_alexnet would give other classes."""
    file = partial(writer, order=f"data {ORDERS[name]} {REST}".split())
    converted = convert_to(tmp_path, file, BLOBS, "--layout=caffe")
    assert alexnet_jax.load(converted)[2].model.name == name
    assert "note:" not in capsys.readouterr().out


def test_a_net_of_another_order_than_the_file_is_noted(tmp_path, capsys):
    file = partial(weight_files.caffemodel, order=f"{ORDERS['caffenet']} {REST}".split())
    convert_to(tmp_path, file, BLOBS, "--layout=caffe", "--model=caffe_alexnet")
    assert "note: caffe_alexnet is not caffenet" in capsys.readouterr().out


def test_a_net_without_groups_is_described_by_overrides(tmp_path):
    """The ungrouped AlexNet, which several programs train: each kernel reads all maps."""
    arrays = drawn(shapes_of(OF_CAFFE, {}, caffe_keys))
    converted = convert_to(
        tmp_path / "x", weight_files.npz, arrays, "--layout=caffe", "--config.model.towers=1"
    )
    _, variables, _ = alexnet_jax.load(converted)
    assert variables["params"]["conv2"]["kernel"].shape == (1, 5, 5, 6, 16)


def test_the_users_input_and_crop_win(tmp_path):
    """A net that was trained on smaller crops, in another scale."""
    arrays = BLOBS | {"fc6/0": BLOBS["fc6/0"][:, : 16 * 9]}
    flags = (
        "--config.data.crop_size=131",
        "--config.data.input_mean=(128.0,128.0,128.0)",
        "--config.data.input_scale=(0.5,0.5,0.5)",
    )
    converted = convert_to(tmp_path / "x", weight_files.npz, arrays, "--layout=caffe", *flags)
    model, variables, config = alexnet_jax.load(converted)
    assert model.net.crop == 131 and config.data.input_scale == (0.5, 0.5, 0.5)
    np.testing.assert_array_equal(variables["input"]["mean"], [128, 128, 128])


def test_through_the_shell(tmp_path):
    (tmp_path / "weights").write_bytes(weight_files.safetensors(BLOBS))
    arguments = (f"--from={tmp_path / 'weights'}", f"--workdir={tmp_path / 'run'}")
    done = run_command("convert", *arguments, "--layout=caffe", "--model=caffenet")
    numbers = sum(x.size for x in BLOBS.values())
    out = " ".join(done.stdout.split())
    assert f"converted: {numbers:,} parameters" in out and done.stderr == ""
    assert "caffenet of width 0.0625 with 7 classes" in out
    assert "input: 227×227 pixels, RGB of 0–255, less (122.679, 116.669, 104.007)" in out
    assert "note:" not in out
    assert "warning: the kernels of conv1, conv2" in out and "at random" in out
    assert workdir.good_step(tmp_path / "run") == 0


DIGITS = TOP / "results" / "nets" / "digits"


def test_an_exported_folder_keeps_its_class_names(tmp_path):
    run_convert(f"--from={DIGITS}", f"--workdir={tmp_path / 'run'}")
    assert class_names(tmp_path / "run") == tuple("0123456789")


def test_a_conversion_that_a_full_disk_stops_can_be_repeated(tmp_path):
    """A workdir with a config would be taken for a run's. No file may be longer than 20 kB."""
    arguments = (f"--from={DIGITS}", f"--workdir={tmp_path / 'run'}")
    with files_up_to(20_000), pytest.raises(UserError, match="the disk is full"):
        run_convert(*arguments)
    assert run_convert(*arguments) == 0
