"""Converted weights compute what they computed where they came from; wrong ones are refused."""

import argparse
import json
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
import weight_files
from commands import TOP, error_line
from commands import command as command_line
from commands import run as run_command
from conversions import CASES, assert_same_params, convert_to, run_convert
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

import alexnet_jax
from alexnet_jax import main
from alexnet_jax.cli import checks, command
from alexnet_jax.data import open_dataset
from alexnet_jax.errors import UserError
from alexnet_jax.nets.variants import resolve
from alexnet_jax.nets.zoo import NETS
from alexnet_jax.runs import workdir
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.session import abstract_session, open_session
from alexnet_jax.start import restore_or_init
from alexnet_jax.weights import matching
from alexnet_jax.weights.layouts import LAYOUTS, expected_shapes
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


# --- real files ------------------------------------------------------------------------------


def prefixed(prefix):
    return {f"{prefix}{name}": array for name, array in STATE.items()}


FILES_OF_SCRIPTS = {
    "DataParallel": prefixed("module."),
    "PyTorch's ImageNet trainer": {
        name.replace("features.", "features.module."): array for name, array in STATE.items()
    },
    "torch.compile": prefixed("_orig_mod."),
    "Lightning": prefixed("model."),
    "compiled in Lightning": prefixed("net._orig_mod."),
    "an average of weights": prefixed("module.") | {"n_averaged": np.array(7)},
}


@pytest.mark.parametrize("name", FILES_OF_SCRIPTS)
def test_what_training_scripts_add_to_names_is_removed(name):
    found, notes = matching.renamed(
        LAYOUTS["torchvision"], NETS["one_weird_trick"], FILES_OF_SCRIPTS[name]
    )
    assert found == STATE
    assert "is read as 'features.0.weight'" in notes[0] and len(notes) == 1


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        (STATE | prefixed("module."), "both 'features.0.weight' and 'module.features.0.weight'"),
        (prefixed("model.") | prefixed("ema."), "several nets: 'ema.', 'model.'"),
    ],
)
def test_two_nets_in_one_file_are_refused(arrays, named):
    with pytest.raises(UserError, match=named):
        matching.renamed(LAYOUTS["torchvision"], NETS["one_weird_trick"], arrays)


def test_torchvisions_references_file_is_converted(tmp_path, workdirs):
    """It holds a Namespace, an optimizer and an average of the weights beside them."""
    saved = {
        "model": prefixed("module."),
        "args": argparse.Namespace(lr=0.01),
        "model_ema": {"n_averaged": np.array(7)} | prefixed("module.module."),
    }
    converted = convert_to(tmp_path / "x", weight_files.torch_save, saved, "--layout=torchvision")
    assert_same_params(converted, workdirs["one_weird_trick"])


def test_a_renamed_classifier_is_read(tmp_path, workdirs, capsys):
    """Caffe's fine-tuning examples rename fc8, so that it is drawn anew."""
    blobs = {name.replace("fc8", "fc8_flickr"): array for name, array in BLOBS.items()}
    converted = convert_to(tmp_path / "x", weight_files.caffemodel, blobs, "--layout=caffe")
    assert "'fc8_flickr/0' is read as the classifier 'fc8/0'" in capsys.readouterr().out
    assert_same_params(converted, workdirs["caffe_alexnet"])


# --- other nets, and parts of a file ---------------------------------------------------------


@pytest.mark.parametrize("model", ["alexnet", "alexnet_original"])
def test_another_net_of_the_same_shapes_takes_the_weights(model, tmp_path, capsys, workdirs):
    case = (weight_files.npz, BLOBS, "--layout=caffe", f"--model={model}")
    converted = convert_to(tmp_path / "x", *case)
    out = capsys.readouterr().out
    assert f"note: {model} is not caffe_alexnet, it computes differently: crop=224 instead" in out
    assert "k=2.0 instead of 1.0" in out and "drop6, drop7: inverted=False instead of True" in out
    _, variables, config = alexnet_jax.load(converted)
    assert config.model.name == model and config.data.crop_size == 224
    _, expected, _ = alexnet_jax.load(workdirs["caffe_alexnet"])
    jax.tree.map(np.testing.assert_array_equal, variables["params"], expected["params"])


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


def test_partial_takes_what_fits_and_draws_the_rest(tmp_path, capsys, workdirs):
    arrays = {name: array for name, array in BLOBS.items() if name != "conv4/1"}
    arrays["scale/0"] = np.ones(3, np.float32)
    flags = ("--layout=caffe", "--partial", "--config.model.num_classes=5")
    converted = convert_to(tmp_path / "x", weight_files.npz, arrays, *flags)
    out = capsys.readouterr().out
    assert "taken from the file: conv1, conv2, conv3, conv5, fc6, fc7; drawn at random: " in out
    assert "conv4 (conv4/1 (24,) is missing)" in out
    assert "fc8 (fc8/0 is (7, 256) instead of (5, 256))" in out
    assert "not used: 'scale/0'" in out
    model, variables, _ = alexnet_jax.load(converted)
    _, expected, _ = alexnet_jax.load(workdirs["caffe_alexnet"])
    ours, theirs = (x["params"] for x in (variables, expected))
    for layer in ("conv1", "conv2", "conv3", "conv5", "fc6", "fc7"):
        jax.tree.map(np.testing.assert_array_equal, ours[layer], theirs[layer])
    std = {layer.name: layer.std for layer in model.net.layers if hasattr(layer, "std")}
    for layer in ("conv4", "fc8"):
        assert np.std(ours[layer]["kernel"]) == pytest.approx(std[layer], rel=0.1)
    assert ours["fc8"]["bias"].shape == (1, 5)


def test_partial_needs_a_layer_that_fits(tmp_path):
    with pytest.raises(UserError, match="has no layer that fits"):
        convert_to(tmp_path / "x", weight_files.npz, STATE, "--layout=caffe", "--partial")


# --- a user's mistakes -----------------------------------------------------------------------


def without(key):
    return {k: v for k, v in BLOBS.items() if k != key}


NOT_FINITE = BLOBS | {"fc7/1": np.full(256, np.inf, np.float32)}
WRONG_ARRAYS = {
    "missing": (without("conv2/0"), ["conv2/0 (16, 3, 5, 5) is missing"]),
    "the first bias is missing": (without("conv1/1"), ["conv1/1 (6,) is missing"]),
    "all missing": ({"w": BLOBS["fc8/1"]}, ["conv1/0 (96, 3, 11, 11) is missing", "14 more"]),
    "unknown": (BLOBS | {"fc9/0": BLOBS["fc8/1"]}, ["'fc9/0' (7,) is not known"]),
    "another shape": (BLOBS | {"fc7/1": BLOBS["fc8/1"]}, ["fc7/1 is (7,) instead of (256,)"]),
    "transposed": (
        BLOBS | {"fc8/0": BLOBS["fc8/0"].T.copy()},
        ["fc8/0 is (256, 7) instead of (7, 256)"],
    ),
    "a width that is none": (
        BLOBS | {"conv1/1": np.zeros(5, np.float32)},
        ["conv1/1 is (5,) instead of (6,)"],
    ),
    "a huge width": (
        {k: np.zeros(96_000, np.float32) for k in BLOBS},
        ["conv1/0 is (96000,) instead of"],
    ),
    "of another crop": (
        # 3 pixels a side before fc6 are 6 or 7 before pool5, 12 to 15 before pool2, 24 to 31 before
        # pool1, and these 103 to 134 before conv1.
        BLOBS | {"fc6/0": BLOBS["fc6/0"][:, : 16 * 9]},
        ["fc6/0 is (256, 144) instead of (256, 576)", "crops of 103 to 134 pixels fit fc6/0"],
    ),
    "integers": (BLOBS | {"fc7/1": np.zeros(256, int)}, ["fc7/1 holds int64, not floats"]),
    "torchvision's": (STATE, ["conv1/0 (96, 3, 11, 11) is missing", "--layout"]),
    "not finite": (NOT_FINITE, ["fc7/1", "not finite"]),
}
FLAGS = {
    "no file": (("--layout=caffe", "--workdir=run"), "--from is missing"),
    "no layout": (("--from=weights", "--workdir=run"), "--layout is missing"),
    "no workdir": (("--from=weights", "--layout=caffe"), "--workdir is missing"),
    "an unknown layout": (("--from=weights", "--layout=keras", "--workdir=run"), "keras"),
    "a net that the layout cannot hold": (
        ("--from=weights", "--layout=caffe", "--model=cuda_convnet_11pct", "--workdir=run"),
        "alexnet, alexnet_released_std, alexnet_original, alexnet_half",
    ),
    "another net by --config": (
        ("--from=weights", "--layout=caffe", "--config.model.name=alexnet", "--workdir=run"),
        "give --model instead",
    ),
    "images smaller than the crop": (
        ("--from=weights", "--layout=caffe", "--config.data.image_size=200", "--workdir=run"),
        "data.image_size=200 is smaller than the net's crop of 227",
    ),
    "a setting that no run can have": (
        ("--from=weights", "--layout=caffe", "--config.data.batch_size=0", "--workdir=run"),
        "data.batch_size=0",
    ),
    "an unknown net": (
        ("--from=weights", "--layout=torchvision", "--model=vgg", "--workdir=run"),
        "one_weird_trick",
    ),
    "the file is gone": (("--from=gone", "--layout=caffe", "--workdir=run"), "--from=gone"),
    "the file is a folder": (("--from=held", "--layout=caffe", "--workdir=run"), "held"),
    "the file is another's": (("--from=words", "--layout=caffe", "--workdir=run"), "words"),
    "the workdir is a file": (("--from=weights", "--layout=caffe", "--workdir=words"), "words"),
    "the workdir is a run's": (("--from=weights", "--layout=caffe", "--workdir=held"), "held"),
    "the workdir has a step": (("--from=weights", "--layout=caffe", "--workdir=step"), "step"),
    "a config that is not there": (("--from=weights", "--config=x.py"), "x.py"),
    "a flag of another command": (("--from=weights", "--checkpoint=x"), "checkpoint"),
}


def contents(folder):
    return sorted((str(x), x.stat().st_mtime_ns) for x in folder.rglob("*"))


@pytest.mark.parametrize("name", WRONG_ARRAYS)
def test_weights_of_another_net_are_refused_by_name_and_shape(name, tmp_path):
    arrays, named = WRONG_ARRAYS[name]
    (tmp_path / "weights.npz").write_bytes(weight_files.npz(arrays))
    arguments = (f"--from={tmp_path / 'weights.npz'}", f"--workdir={tmp_path / 'run'}")
    with pytest.raises(UserError) as mistake:
        run_convert(*arguments, "--layout=caffe")
    assert "weights.npz" in str(mistake.value)
    for words in named:
        assert words in str(mistake.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", FLAGS)
def test_wrong_flags_are_refused_and_nothing_is_written(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("weights").write_bytes(weight_files.caffemodel(BLOBS))
    Path("words").write_text("These are not weights.\n")
    Path("held").mkdir()
    Path("held/config.json").write_text("{}")
    Path("step/checkpoints/7").mkdir(parents=True)
    before = contents(tmp_path)
    arguments, named = FLAGS[name]
    with pytest.raises(UserError) as mistake:
        run_convert(*arguments)
    assert named in str(mistake.value)
    assert contents(tmp_path) == before


def test_a_second_conversion_into_one_workdir_is_refused(workdirs):
    before = contents(workdirs["caffenet"])
    weights = workdirs["caffenet"].parent / "weights"
    with pytest.raises(UserError, match=r"holds a run already; give another --workdir"):
        run_convert(f"--from={weights}", "--layout=caffe", f"--workdir={workdirs['caffenet']}")
    assert contents(workdirs["caffenet"]) == before


def test_through_the_shell(tmp_path):
    (tmp_path / "weights").write_bytes(weight_files.safetensors(BLOBS))
    arguments = (f"--from={tmp_path / 'weights'}", f"--workdir={tmp_path / 'run'}")
    done = run_command("convert", *arguments, "--layout=caffe", "--model=caffenet")
    numbers = sum(x.size for x in BLOBS.values())
    assert f"converted: {numbers:,} parameters" in done.stdout and done.stderr == ""
    assert "caffenet of width 0.0625 with 7 classes" in done.stdout
    assert "input: 227×227 pixels, RGB of 0–255, less (122.679, 116.669, 104.007)" in done.stdout
    assert "note:" not in done.stdout
    assert "warning: the kernels of conv1, conv2" in done.stdout and "at random" in done.stdout
    assert workdir.good_step(tmp_path / "run") == 0


def test_without_the_checkout_a_config_has_to_be_named(tmp_path):
    """Installed alone, the package has no configs beside it."""
    (tmp_path / "alexnet_jax").symlink_to(TOP / "alexnet_jax")
    arguments = ("--from=weights", "--layout=caffe", "--workdir=run")
    done = subprocess.run(
        command_line("convert", *arguments), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and "--config is missing" in error_line(done)
