"""What export writes is what the net is: converted again, loaded again, or run by others."""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import onnxruntime
import pytest
import weight_files
import yaml
from commands import TOP, error_line
from commands import run as run_command
from conversions import (
    CASES,
    assert_same_params,
    convert_to,
    params_of,
    run_convert,
    run_export,
)
from foreign_nets import BLOBS
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import alexnet_jax
from alexnet_jax import build_model, export
from alexnet_jax.cli import command
from alexnet_jax.errors import UserError
from alexnet_jax.nets.shapes import array_shapes, without_statistics
from alexnet_jax.nets.variants import resolve
from alexnet_jax.runs.workdir import read_config
from alexnet_jax.weights import readers
from alexnet_jax.weights.hub import is_hub, load_hub
from alexnet_jax.weights.layouts import LAYOUTS, to_arrays, to_params, unnamed_layers
from configs import base

KINDS = ("npz", "safetensors")


def exported(workdir, target, *flags):
    assert run_export(f"--checkpoint={workdir}", f"--to={target}", *flags) == 0
    return target


# --- weights in the layout of others ---------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "layout"), [("caffe_alexnet", "caffe"), ("one_weird_trick", "torchvision")]
)
def test_what_was_converted_is_exported_as_it_was(kind, name, layout, tmp_path, workdirs):
    file = exported(workdirs[name], tmp_path / f"x.{kind}", f"--layout={layout}")
    found, expected = readers.read(file).arrays, CASES[name][1]
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["caffe", "torchvision"])
def test_what_was_exported_is_converted_to_what_it_was(kind, layout, tmp_path, workdirs):
    """Each layout can hold the nets of the other, too."""
    file = exported(workdirs["caffenet"], tmp_path / f"x.{kind}", f"--layout={layout}")
    arguments = (f"--from={file}", f"--layout={layout}", "--model=caffenet")
    assert run_convert(*arguments, f"--workdir={tmp_path / 'run'}") == 0
    assert_same_params(tmp_path / "run", workdirs["caffenet"])


@pytest.mark.slow
def test_a_trained_net_comes_back(tmp_path, trained):
    """A net of another data set, crop and classifier, which Caffe's cifar10_full is like."""
    file = exported(trained, tmp_path / "x.safetensors")
    with safe_open(file, "np") as opened:
        facts = opened.metadata()
    assert facts["net"] == "cuda_convnet_18pct" and json.loads(facts["class_names"])[3] == "3"
    assert facts["input"].startswith("32×32 pixels of 0–255 less the mean image")
    arguments = (
        "--config=configs/base.py",
        "--config.data.image_size=34",
        f"--from={file}",
        "--layout=caffe",
    )
    assert run_convert(*arguments, f"--workdir={tmp_path / 'run'}") == 0
    assert_same_params(tmp_path / "run", trained)


def test_a_net_of_the_shapes_of_caffes_comes_back_as_itself(tmp_path, capsys):
    """alexnet in caffe_alexnet has the same parameters and gives other classes."""
    run = convert_to(tmp_path / "x", weight_files.npz, BLOBS, "--layout=caffe", "--model=alexnet")
    file = exported(run, tmp_path / "x.safetensors", "--layout=caffe")
    run_convert(f"--from={file}", "--layout=caffe", f"--workdir={tmp_path / 'run'}")
    assert alexnet_jax.load(tmp_path / "run")[2].model.name == "alexnet"
    out = capsys.readouterr().out
    said = "the file says of its input: '224×224 pixels of 0–255 less the RGB mean (122.679"
    assert said in " ".join(out.split())


# --- ONNX ------------------------------------------------------------------------------------


def test_an_onnx_file_takes_pixels_and_gives_the_nets_logits(tmp_path, trained):
    file = exported(trained, tmp_path / "x.onnx")
    model, variables, _ = alexnet_jax.load(trained)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    stats = variables["input"]
    expected, _ = jax.jit(model.apply)(variables, (pixels - stats["mean"]) * stats["scale"])
    session = onnxruntime.InferenceSession(file)
    logits, _ = session.run(None, {"images": pixels.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["config"])["model"]["name"] == "cuda_convnet_18pct"
    assert "RGB of 0–255; the model applies mean and scale itself" in facts["input"]


# --- a folder for the hub --------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub(trained, tmp_path_factory):
    return exported(trained, tmp_path_factory.mktemp("hub") / "folder", "--license=apache-2.0")


def test_without_a_license_the_card_says_other(trained, tmp_path):
    """The weights may be somebody else's, converted."""
    words = ["export", f"--checkpoint={trained}", f"--to={tmp_path}/folder"]
    assert export.check(command.parse(words, export.define_flags)).license_name == "other"


def test_the_folder_holds_the_net_and_its_input(hub, trained):
    names = sorted(x.name for x in hub.iterdir())
    assert names == ["README.md", "config.json", "model.safetensors"]
    found, (_, variables, config) = load_hub(hub), alexnet_jax.load(trained)
    jax.tree.map(np.testing.assert_array_equal, found.params, jax.device_get(variables["params"]))
    np.testing.assert_array_equal(found.mean, variables["input"]["mean"])
    assert found.mean.shape == (32, 32, 3)
    assert found.config == config == read_config(trained)
    assert found.net == build_model(config).net
    assert found.class_names == tuple("0123456789")
    assert is_hub(hub) and not is_hub(trained)


def test_its_card_says_what_was_measured(hub, trained):
    """A YAML reader of its own reads the head."""
    _, head, text = (hub / "README.md").read_text().split("---\n", 2)
    card, measured = yaml.safe_load(head), json.loads((trained / "eval.json").read_text())
    assert card["library_name"] == "alexnet_jax" and card["license"] == "apache-2.0"
    assert "image-classification" in card["tags"]
    (result,) = card["model-index"][0]["results"]
    assert result["dataset"]["name"] == "digits"
    top1, top5 = (metric["value"] for metric in result["metrics"])
    assert top1 == pytest.approx(1 - measured["test/top1_error"])
    assert top5 == pytest.approx(1 - measured["test/top5_error"])
    assert "Measured on the 359 images of the test split of digits, in 1 view(s): " in text
    assert f"{100 * measured['test/top1_error']:.2f} % top-1 error" in text
    assert f"{sum(x.size for x in jax.tree.leaves(params_of(trained))):,} parameters" in text


@pytest.mark.slow
def test_batch_normalisation_goes_into_a_folder_and_onnx_and_nowhere_else(tmp_path, capsys):
    """With the running averages of three steps, in one column."""
    run, settings = tmp_path / "run", ("towers=1", "name=alexnet_batch_norm", "width=0.0625")
    run_command(
        "main", "--config=configs/base.py", *(f"--config.model.{x}" for x in settings),
        "--config.train.steps=3", f"--workdir={run}",
    )  # fmt: skip
    model, variables, _ = alexnet_jax.load(run)
    norm = variables["params"]["norm1"]
    assert np.abs(norm["mean"]).min() > 0 and np.abs(norm["variance"] - 1).min() > 0
    folder = exported(run, tmp_path / "folder")
    assert_same_params(folder, run)
    learned = sum(x.size for x in jax.tree.leaves(without_statistics(variables["params"])))
    assert f"{learned:,} parameters" in (folder / "README.md").read_text()
    assert f"exported: {learned:,} parameters of" in capsys.readouterr().out
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3)).astype(np.float32)
    expected, _ = jax.jit(model.apply)(variables, pixels - variables["input"]["mean"])
    session = onnxruntime.InferenceSession(exported(run, tmp_path / "x.onnx"))
    logits, _ = session.run(None, {"images": pixels.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())
    for layout in LAYOUTS:
        with pytest.raises(UserError, match=r"cannot hold norm1, norm2, .* of alexnet_batch_norm"):
            exported(run, tmp_path / "x.npz", f"--layout={layout}")


def test_an_evaluation_of_another_step_is_left_out(tmp_path, workdirs, capsys):
    run = tmp_path / "run"
    shutil.copytree(workdirs["caffenet"], run)
    (run / "eval.json").write_text('{"step": 5, "members": 1, "data": "x", "test/loss": 1.0}')
    card = (exported(run, tmp_path / "folder") / "README.md").read_text()
    assert "It has not been evaluated." in card and "model-index" not in card
    assert "warning: the kernels of conv1, conv2, conv3" in capsys.readouterr().out


def test_what_a_killed_export_has_left_is_replaced(tmp_path):
    (tmp_path / ".hub.draft").mkdir()
    (tmp_path / ".hub.draft" / "half").touch()
    folder = exported(TOP / "results" / "nets" / "digits", tmp_path / "hub")
    assert is_hub(folder) and not (folder / "half").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_a_folder_can_be_exported_again(hub, tmp_path, trained):
    arrays = readers.read(exported(f"{hub}/", tmp_path / "x.npz")).arrays
    expected = readers.read(exported(trained, tmp_path / "y.npz")).arrays
    jax.tree.map(np.testing.assert_array_equal, arrays, expected)


def replace_in(file, old, new):
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def spoil(file, change):
    """Changes the first bias."""
    tensors = load_file(file)
    tensors["conv1.bias"] = change(tensors["conv1.bias"])
    save_file(tensors, file)


DAMAGES = {
    "no weights": (lambda x: (x / "model.safetensors").unlink(), "model.safetensors is not a file"),
    "cut weights": (lambda x: cut(x / "model.safetensors"), "damaged"),
    "no config": (lambda x: (x / "config.json").unlink(), "config.json cannot be read"),
    "another width": (
        lambda x: replace_in(x / "config.json", '"width": 0.25', '"width": 0.5'),
        "conv1.bias is (1, 8) instead of (1, 16)",
    ),
    "another crop": (
        lambda x: replace_in(x / "config.json", '"crop_size": 32', '"crop_size": 33'),
        "no input.mean of this net",
    ),
    "weights that are no numbers": (
        lambda x: spoil(x / "model.safetensors", lambda bias: bias * np.nan),
        "conv1.bias in",
    ),
    "weights that are integers": (
        lambda x: spoil(x / "model.safetensors", lambda bias: bias.astype(np.int32)),
        "model.safetensors is not all finite floats",
    ),
    # The names behind it would each stand for the class before.
    "a class without a name": (
        lambda x: replace_in(x / "config.json", '    "5": "5",\n', ""),
        "id2label in config.json has to name the classes 0 to 9, and no others",
    ),
    "classes without numbers": (
        lambda x: replace_in(x / "config.json", '"id2label": {', '"id2label": 3, "x": {'),
        "id2label in config.json has to name the classes 0 to 9, and no others",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_is_refused(name, hub, tmp_path):
    damage, named = DAMAGES[name]
    shutil.copytree(hub, tmp_path / "folder")
    damage(tmp_path / "folder")
    with pytest.raises(UserError) as mistake:
        load_hub(tmp_path / "folder")
    assert named in str(mistake.value)


# --- a user's mistakes -----------------------------------------------------------------------

FLAGS = {
    "no checkpoint": (("--to=x.npz",), "--checkpoint is missing"),
    "no target": (("--checkpoint=run",), "--to is missing"),
    "a checkpoint that is not there": (("--checkpoint=gone", "--to=x.npz"), "gone"),
    "an unknown ending": (("--checkpoint=run", "--to=x.h5"), "--to=x.h5 ends in .h5"),
    "an unknown layout": (("--checkpoint=run", "--to=x.npz", "--layout=keras"), "keras"),
    "a layout of ONNX": (
        ("--checkpoint=run", "--to=x.onnx", "--layout=caffe"),
        "--layout is for a .safetensors or .npz",
    ),
    "a license of a file": (
        ("--checkpoint=run", "--to=x.npz", "--license=mit"),
        "--license is for a folder",
    ),
    "a file that is there": (("--checkpoint=run", "--to=there.npz"), "exists already"),
    "a folder that is there": (("--checkpoint=run", "--to=run"), "exists already"),
    "a flag of another command": (("--checkpoint=run", "--workdir=x"), "workdir"),
}
# Runs the command in this process's Python and says whether jax was imported meanwhile.
WATCHED = """
import runpy, sys
sys.argv = ["export", *sys.argv[1:]]
try:
    runpy.run_module("alexnet_jax.export", run_name="__main__", alter_sys=True)
finally:
    print("jax" in sys.modules)
"""


@pytest.mark.parametrize("name", FLAGS)
def test_wrong_flags_are_refused_before_jax_is_imported(name, tmp_path, trained):
    arguments, named = FLAGS[name]
    (tmp_path / "run").symlink_to(trained)
    (tmp_path / "there.npz").write_bytes(b"kept")
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and named in error_line(done)
    assert done.stdout == "False\n"
    assert sorted(x.name for x in tmp_path.iterdir()) == ["run", "there.npz"]
    assert (tmp_path / "there.npz").read_bytes() == b"kept"


def test_a_missing_onnx_package_is_named_with_the_command(tmp_path, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)  # as if it were not installed
    with pytest.raises(UserError, match="pip install onnx"):
        exported(trained, tmp_path / "x.onnx")
    exported(trained, tmp_path / "x.npz")


def test_a_layer_that_the_layout_cannot_hold_is_named(tmp_path, trained):
    with pytest.raises(UserError, match="--layout=torchvision cannot hold fc10 of cuda_convnet"):
        exported(trained, tmp_path / "x.npz", "--layout=torchvision")
    assert not list(tmp_path.iterdir())


def test_unshared_convolutions_have_no_place_in_caffes_layout():
    config = base.get_config()
    config.model.update(name="cuda_convnet_11pct", num_classes=10)
    config.data.crop_size = 24
    net = build_model(config).net
    assert unnamed_layers(LAYOUTS["caffe"], net) == ["local3", "local4"]


@pytest.mark.slow
def test_through_the_shell(tmp_path, trained):
    done = run_command("export", f"--checkpoint={trained}", f"--to={tmp_path / 'new' / 'x.npz'}")
    assert "exported: 8,002 parameters of" in done.stdout and done.stderr == ""
    assert [x.name for x in (tmp_path / "new").iterdir()] == ["x.npz"]


def test_the_first_convolution_takes_bgr_whichever_it_is():
    """Caffe's images are blue, green, red, and without conv1 it is conv2 that reads them."""
    model = base.get_config().model
    model.update(name="alexnet_half", width=0.0625, num_classes=3, without=("conv1",))
    net, layout = resolve(model, 64), LAYOUTS["caffe"]
    rng = np.random.default_rng(0)
    params = {}
    for (layer, name), sides in array_shapes(net).items():
        params.setdefault(layer, {})[name] = rng.normal(size=sides).astype(np.float32)
    arrays = to_arrays(layout, net, params)
    (kernel,) = params["conv2"]["kernel"]  # of the only tower: [rows, columns, RGB, maps]
    np.testing.assert_array_equal(arrays["conv2/0"], kernel[:, :, ::-1].transpose(3, 2, 0, 1))
    again = to_params(layout, net, arrays)
    np.testing.assert_array_equal(again["conv2"]["kernel"], params["conv2"]["kernel"])
