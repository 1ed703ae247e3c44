"""Names and layers of a file are matched with the net's, whatever a script added to them."""

import argparse

import jax
import numpy as np
import pytest
import weight_files
from conversions import assert_same_params, convert_to
from foreign_nets import (
    BLOBS,
    STATE,
)

import alexnet_jax
from alexnet_jax.errors import UserError
from alexnet_jax.nets.zoo import NETS
from alexnet_jax.weights import matching
from alexnet_jax.weights.layouts import LAYOUTS


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


def test_partial_takes_what_fits_and_draws_the_rest(tmp_path, capsys, workdirs):
    arrays = {name: array for name, array in BLOBS.items() if name != "conv4/1"}
    arrays["scale/0"] = np.ones(3, np.float32)
    flags = ("--layout=caffe", "--partial", "--config.model.num_classes=5")
    converted = convert_to(tmp_path / "x", weight_files.npz, arrays, *flags)
    out = " ".join(capsys.readouterr().out.split())
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
