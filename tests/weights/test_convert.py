"""Converted weights compute what they computed where they came from; wrong ones are refused."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import weight_files
from commands import run as run_command
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import correlate

import alexnet_jax
from alexnet_jax import build_model, convert, main, parallel, train
from alexnet_jax.cli import checks, command
from alexnet_jax.errors import UserError
from alexnet_jax.nets.variants import resolve
from alexnet_jax.nets.zoo import NETS
from alexnet_jax.runs import workdir
from alexnet_jax.runs.checkpoint import Checkpoints

CLASSES = 7
OF_CAFFE = {"conv1": 6, "conv2": 16, "conv3": 24, "conv4": 24, "conv5": 16, "fc6": 256, "fc7": 256}
OF_TORCH = {"conv1": 4, "conv2": 12, "conv3": 24, "conv4": 16, "conv5": 16, "fc6": 256, "fc7": 256}


# --- the foreign nets: channels first, groups as Caffe has them ------------------------------


def relu(x):
    return np.maximum(x, 0)


def conv(x, kernel, bias, groups=1, stride=1, pad=0):
    """[C, H, W] by a kernel [out, in ÷ groups, rows, columns]."""
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    maps, inputs = len(kernel) // groups, len(x) // groups
    outputs = []
    for i, (weights, constant) in enumerate(zip(kernel, bias, strict=True)):
        group = i // maps
        seen = x[group * inputs : (group + 1) * inputs]
        outputs.append(correlate(seen, weights, "valid")[0, ::stride, ::stride] + constant)
    return np.stack(outputs)


def pool(x):
    windows = sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2]
    return windows.max((-1, -2))


def norm(x):
    """Caffe's: k = 1, alpha ÷ 5, over all channels."""
    squares = np.pad(x**2, ((2, 2), (0, 0), (0, 0)))
    return x / (1 + 1e-4 / 5 * sliding_window_view(squares, 5, 0).sum(-1)) ** 0.75


def caffe(image, blobs, norm_first):
    """bvlc_alexnet (norm before pool) or bvlc_reference_caffenet, of uint8 RGB [227, 227, 3]."""

    def of(name):
        return blobs[f"{name}/0"], blobs[f"{name}/1"]

    def both(x):
        return pool(norm(x)) if norm_first else norm(pool(x))

    bgr = image[..., ::-1] - np.array([104.00698793, 116.66876762, 122.67891434])
    x = bgr.transpose(2, 0, 1)
    x = both(relu(conv(x, *of("conv1"), stride=4)))
    x = both(relu(conv(x, *of("conv2"), groups=2, pad=2)))
    x = relu(conv(x, *of("conv3"), pad=1))
    x = relu(conv(x, *of("conv4"), groups=2, pad=1))
    x = pool(relu(conv(x, *of("conv5"), groups=2, pad=1))).ravel()
    for name in ("fc6", "fc7"):
        x = relu(of(name)[0] @ x + of(name)[1])
    return of("fc8")[0] @ x + of("fc8")[1]


def torchvision(image, state):
    """torchvision's alexnet of uint8 RGB [224, 224, 3]."""

    def of(name):
        return state[f"{name}.weight"], state[f"{name}.bias"]

    scaled = (image / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    x = scaled.transpose(2, 0, 1)
    x = pool(relu(conv(x, *of("features.0"), stride=4, pad=2)))
    x = pool(relu(conv(x, *of("features.3"), pad=2)))
    for name in ("features.6", "features.8"):
        x = relu(conv(x, *of(name), pad=1))
    x = pool(relu(conv(x, *of("features.10"), pad=1))).ravel()
    for name in ("classifier.1", "classifier.4"):
        x = relu(of(name)[0] @ x + of(name)[1])
    return of("classifier.6")[0] @ x + of("classifier.6")[1]


def drawn(shapes, seed=0):
    """Arrays of variance 2 ÷ fan-in, biases about 0.1: every layer matters."""
    rng = np.random.default_rng(seed)

    def draw(shape):
        if len(shape) == 1:
            return rng.normal(0.1, 0.1, shape)
        return rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))

    return {name: draw(shape).astype(np.float32) for name, shape in shapes.items()}


def shapes_of(units, groups, keys):
    """What a net with these units holds, under its own names: (weights, bias) by layer."""
    units = {**units, "fc8": CLASSES}
    sides = {"conv1": 11, "conv2": 5, "conv3": 3, "conv4": 3, "conv5": 3}
    shapes, inputs = {}, 3
    for layer, outputs in units.items():
        side = (sides[layer],) * 2 if layer in sides else ()
        reads = inputs * 36 if layer == "fc6" else inputs // groups.get(layer, 1)
        shapes |= {keys(layer)[0]: (outputs, reads, *side), keys(layer)[1]: (outputs,)}
        inputs = outputs
    return shapes


def caffe_keys(layer):
    return f"{layer}/0", f"{layer}/1"


def torchvision_keys(layer):
    return f"{convert.TORCHVISION[layer]}.weight", f"{convert.TORCHVISION[layer]}.bias"


BLOBS = drawn(shapes_of(OF_CAFFE, {"conv2": 2, "conv4": 2, "conv5": 2}, caffe_keys))
STATE = drawn(shapes_of(OF_TORCH, {}, torchvision_keys), seed=1)
ALEXNET = (weight_files.caffemodel_of_2013, BLOBS, "--layout=caffe")
CASES = {
    "caffe_alexnet": (*ALEXNET, "--model=caffe_alexnet"),
    "caffenet": (weight_files.npz, BLOBS, "--layout=caffe", "--model=caffenet"),
    "one_weird_trick": (weight_files.pth, STATE, "--layout=torchvision"),
}
FORWARD = {
    "caffe_alexnet": lambda image: caffe(image, BLOBS, norm_first=True),
    "caffenet": lambda image: caffe(image, BLOBS, norm_first=False),
    "one_weird_trick": lambda image: torchvision(image, STATE),
}


def run(*arguments):
    return convert.main(command.parse(["convert", *map(str, arguments)], convert.define_flags))


def convert_to(folder, writer, arrays, *flags):
    """Writes a file of these arrays, converts it, and returns the workdir."""
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_bytes(writer(arrays))
    assert run(f"--from={folder / 'weights'}", f"--workdir={folder / 'run'}", *flags) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    top = tmp_path_factory.mktemp("converted")
    return {name: convert_to(top / name, *case) for name, case in CASES.items()}


# --- right weights ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_net_that_the_weights_come_from(name, workdirs):
    model, variables, config = alexnet_jax.load(workdirs[name])
    crop = config.data.crop_size
    images = np.random.default_rng(5).integers(0, 256, (1, crop, crop, 3)).astype(np.uint8)
    expected = np.stack([FORWARD[name](image) for image in images])
    pixels = (images - variables["input"]["mean"]) * np.float32(config.data.input_scale)
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


def test_main_trains_on_from_it(tmp_path, workdirs):
    net = ("model.name=one_weird_trick", "model.width=0.0625", "data.crop_size=224")
    arguments = [f"--config.{x}" for x in (*net, f"init_from={workdirs['one_weird_trick']}")]
    config = checks.check(flags_of_main(*arguments, f"--workdir={tmp_path}")).config
    mesh = parallel.make_mesh(parallel.Layout())
    with Checkpoints(tmp_path, 1) as checkpoints:
        state, _ = train.begin(config, build_model(config), mesh, checkpoints, "")
    _, expected, _ = alexnet_jax.load(workdirs["one_weird_trick"])
    jax.tree.map(np.testing.assert_array_equal, state.params, expected["params"])
    assert int(state.step) == 0


def test_main_does_not_train_in_its_workdir(workdirs):
    """It is another run's, and says so."""
    with pytest.raises(UserError, match=r"another config.*give another --workdir"):
        checks.check(flags_of_main(f"--workdir={workdirs['one_weird_trick']}"))


def test_all_that_a_run_restores_is_there(workdirs):
    """With the same config main would find its state at step 0, and then other data."""
    config = workdir.read_config(workdirs["one_weird_trick"])
    mesh = parallel.make_mesh(parallel.Layout())
    with (
        Checkpoints(workdirs["one_weird_trick"], 1) as checkpoints,
        pytest.raises(UserError, match="is not the one that this run began with"),
    ):
        train.begin(config, build_model(config), mesh, checkpoints, "checksum")


# Caffe's train_val.prototxt and torchvision's state_dict: [out, in ÷ groups, rows, columns].
WHOLE = {
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


@pytest.mark.parametrize("name", WHOLE)
def test_at_full_width_it_wants_the_published_shapes(name):
    layout = convert.LAYOUTS[name]
    for model in layout.models:
        config = convert.make_config(layout, model, {})
        assert config.model.width == 1 and config.data.crop_size == NETS[model].crop
        shapes = convert.expected_shapes(layout, resolve(config.model, config.data.crop_size))
        assert {k: v for k, v in shapes.items() if len(v) > 1} == WHOLE[name]
        assert sum(np.prod(shape) for shape in shapes.values()) == PARAMETERS[name]


# --- a user's mistakes -----------------------------------------------------------------------


def without(key):
    return {k: v for k, v in BLOBS.items() if k != key}


NOT_FINITE = BLOBS | {"fc7/1": np.full(256, np.inf, np.float32)}
WRONG_ARRAYS = {
    "missing": (without("conv2/0"), ["conv2/0 (16, 3, 5, 5) is missing"]),
    "all missing": ({"w": BLOBS["fc8/1"]}, ["conv1/0 (96, 3, 11, 11) is missing", "14 more"]),
    "unknown": (BLOBS | {"fc9/0": BLOBS["fc8/1"]}, ["'fc9/0' (7,) is not known"]),
    "another shape": (BLOBS | {"fc7/1": BLOBS["fc8/1"]}, ["fc7/1 is (7,) instead of (256,)"]),
    "transposed": (
        BLOBS | {"fc8/0": BLOBS["fc8/0"].T.copy()},
        ["fc8/0 is (256, 7) instead of (7, 256)"],
    ),
    "a width that is none": (
        BLOBS | {"conv1/1": np.zeros(5, np.float32)},
        ["conv1/0 is (6, 3, 11, 11) instead of (96, 3, 11, 11)"],
    ),
    "a huge width": (BLOBS | {"conv1/1": np.zeros(960_000, np.float32)}, ["conv1/0 is (6,"]),
    "torchvision's": (STATE, ["conv1/0 (96, 3, 11, 11) is missing", "--layout"]),
    "not finite": (NOT_FINITE, ["fc7/1", "not finite"]),
}
FLAGS = {
    "no file": (("--layout=caffe", "--workdir=run"), "--from is missing"),
    "no layout": (("--from=weights", "--workdir=run"), "--layout is missing"),
    "no workdir": (("--from=weights", "--layout=caffe"), "--workdir is missing"),
    "an unknown layout": (("--from=weights", "--layout=keras", "--workdir=run"), "keras"),
    "another's net": (
        ("--from=weights", "--layout=caffe", "--model=alexnet", "--workdir=run"),
        "caffe_alexnet, caffenet",
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
    "a flag of another command": (("--from=weights", "--config=x"), "config"),
}


def contents(folder):
    return sorted((str(x), x.stat().st_mtime_ns) for x in folder.rglob("*"))


@pytest.mark.parametrize("name", WRONG_ARRAYS)
def test_weights_of_another_net_are_refused_by_name_and_shape(name, tmp_path):
    arrays, named = WRONG_ARRAYS[name]
    (tmp_path / "weights.npz").write_bytes(weight_files.npz(arrays))
    arguments = (f"--from={tmp_path / 'weights.npz'}", f"--workdir={tmp_path / 'run'}")
    with pytest.raises(UserError) as mistake:
        run(*arguments, "--layout=caffe")
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
        run(*arguments)
    assert named in str(mistake.value)
    assert contents(tmp_path) == before


def test_a_second_conversion_into_one_workdir_is_refused(workdirs):
    before = contents(workdirs["caffenet"])
    weights = workdirs["caffenet"].parent / "weights"
    with pytest.raises(UserError, match=r"holds a run already; give another --workdir"):
        run(f"--from={weights}", "--layout=caffe", f"--workdir={workdirs['caffenet']}")
    assert contents(workdirs["caffenet"]) == before


def test_through_the_shell(tmp_path):
    (tmp_path / "weights").write_bytes(weight_files.safetensors(BLOBS))
    arguments = (f"--from={tmp_path / 'weights'}", f"--workdir={tmp_path / 'run'}")
    done = run_command("convert", *arguments, "--layout=caffe", "--model=caffenet")
    numbers = sum(x.size for x in BLOBS.values())
    assert f"converted: {numbers:,} parameters" in done.stdout and done.stderr == ""
    assert "caffenet of width 0.0625 with 7 classes" in done.stdout
    assert workdir.good_step(tmp_path / "run") == 0
