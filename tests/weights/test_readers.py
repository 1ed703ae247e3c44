"""Weight files of every kind are read as they are, whatever they are called."""

import argparse
from collections import Counter, OrderedDict, defaultdict
from pathlib import PurePosixPath

import numpy as np
import pytest
import weight_files
from reading import ARRAYS, WRITERS, read, refused
from weight_files import called, plain, state_dict, tensor, torch_zip

from alexnet_jax.errors import UserError
from alexnet_jax.weights import readers

# --- good files ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_arrays_back_whatever_the_file_is_called(kind, tmp_path):
    found = read(WRITERS[kind](ARRAYS), tmp_path / "weights")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("kind", ["pth", "pth of old", "npz", "safetensors"])
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floats_become_float32(kind, dtype, tmp_path):
    arrays = {name: array.astype(dtype) for name, array in ARRAYS.items()}
    found = read(WRITERS[kind](arrays), tmp_path / "weights")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array.astype(np.float32))


def test_double_blobs_and_bfloat16(tmp_path):
    doubles = {"fc8/0": ARRAYS["fc8/0"].astype(np.float64)}
    found = read(weight_files.caffemodel(doubles), tmp_path / "weights")
    np.testing.assert_array_equal(found["fc8/0"], ARRAYS["fc8/0"])
    halves = {"x": np.array([0x3F80, 0xC000, 0x3EAB], np.uint16)}
    found = read(weight_files.safetensors(halves), tmp_path / "weights")
    np.testing.assert_array_equal(found["x"], np.float32([1, -2, 0.333984375]))


@pytest.mark.parametrize("writer", [weight_files.pth, weight_files.pth_legacy])
def test_strides_are_honoured(writer, tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    found = read(writer({"x": base.transpose(2, 0, 1)}), tmp_path / "weights")
    np.testing.assert_array_equal(found["x"], base.transpose(2, 0, 1))
    columns_first = {"x": np.asfortranarray(base)}
    found = read(weight_files.npz(columns_first), tmp_path / "weights")
    np.testing.assert_array_equal(found["x"], base)


def test_tensors_may_share_a_storage(tmp_path):
    numbers = np.arange(6, dtype=np.float32)
    items = [("a", tensor("0", 6, 1, (2, 2), (2, 1))), ("b", tensor("0", 6, 5, (1,), (1,)))]
    found = read(torch_zip(state_dict(items), {"0": numbers.tobytes()}), tmp_path / "weights")
    np.testing.assert_array_equal(found["a"], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(found["b"], [5])


@pytest.mark.parametrize("kind", ["pth", "pth of old", "npz", "safetensors"])
def test_integers_keep_their_dtype(kind, tmp_path):
    arrays = {"n_averaged": np.arange(3, dtype=np.int64), "w": ARRAYS["fc8/1"]}
    found = read(WRITERS[kind](arrays), tmp_path / "weights")
    assert found["n_averaged"].dtype == np.int64 and found["w"].dtype == np.float32
    np.testing.assert_array_equal(found["n_averaged"], arrays["n_averaged"])


WEIGHTS = OrderedDict(w=ARRAYS["fc8/0"], b=ARRAYS["fc8/1"])
OPTIMIZER = {
    "state": {0: {"step": 90, "momentum_buffer": np.ones((3, 7), np.float32)}},
    "param_groups": [{"lr": 0.01, "nesterov": False, "params": [0, 1]}],
}
SCRIPTS = {
    "PyTorch's ImageNet trainer": {
        "epoch": 90, "arch": "alexnet", "state_dict": WEIGHTS, "optimizer": OPTIMIZER,
        "best_acc1": np.array(56.5, np.float32), "scheduler": {"milestones": Counter({30: 1})},
    },
    "torchvision's references": {
        "model": WEIGHTS, "optimizer": OPTIMIZER, "epoch": 89, "scaler": None,
        "args": argparse.Namespace(lr=0.01, data_path=PurePosixPath("/data"), amp=False),
        "model_ema": OrderedDict(n_averaged=np.array(7), w=ARRAYS["fc8/0"] + 1),
    },
    "Lightning": {
        "pytorch-lightning_version": "2.4.0", "global_step": 7, "state_dict": WEIGHTS,
        "callbacks": {"ModelCheckpoint": {"best_model_score": np.array(0.5, np.float32)}},
        "hyper_parameters": {"rate": np.float64(0.01), "seen": defaultdict(list, {"a": [1]})},
    },
    "PyTorch's tutorial": {"epoch": 3, "model_state_dict": WEIGHTS, "loss": 0.4},
    "another script": {"net": WEIGHTS, "acc": 91.2, "epoch": 7, "args": {}, "optim": OPTIMIZER},
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_weights_in_a_training_scripts_checkpoint_are_read(name, tmp_path):
    found = read(weight_files.torch_save(SCRIPTS[name]), tmp_path / "weights")
    assert list(found) == ["w", "b"]
    for key, array in WEIGHTS.items():
        np.testing.assert_array_equal(found[key], array)


def test_a_placeholder_is_no_tensor(tmp_path):
    """An object of a library is read as a placeholder, which cannot become a weight."""
    for saved, named in (
        ({"state_dict": {"w": argparse.Namespace()}}, "argparse.Namespace"),
        (Counter(), "collections.Counter"),
    ):
        assert named in refused(weight_files.torch_save(saved), tmp_path / "weights")


def test_a_parameter_and_python_2s_ordered_dict(tmp_path):
    hooks = called("collections OrderedDict")
    one = called("torch._utils _rebuild_parameter", tensor("0", 3, 0, (3,), (1,)), b"\x88", hooks)
    pair = b"](" + plain("w") + one + b"e"
    pickled = b"\x80\x02" + called("collections OrderedDict", b"](" + pair + b"e") + b"."
    found = read(torch_zip(pickled, {"0": ARRAYS["fc8/1"].tobytes()}), tmp_path / "weights")
    np.testing.assert_array_equal(found["w"], ARRAYS["fc8/1"])


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (weight_files.safetensors(ARRAYS, __metadata__={"net": "alexnet"}), {"net": "alexnet"}),
        (weight_files.safetensors(ARRAYS, __metadata__=None), {}),
        (weight_files.npz(ARRAYS), {}),
        (
            weight_files.caffemodel(ARRAYS, order=["pool1", "norm1", "fc8"]),
            {"layers": ["data", "pool1", "norm1", "fc8"]},
        ),
    ],
    ids=["safetensors", "safetensors with null", "npz", "caffemodel"],
)
def test_what_a_file_says_of_its_net(content, facts, tmp_path):
    (tmp_path / "weights").write_bytes(content)
    assert readers.read(tmp_path / "weights").facts == facts


# --- any file --------------------------------------------------------------------------------


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "gone", readers.Path("/dev/zero")):
        with pytest.raises(UserError, match="is not a file"):
            readers.read(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "weights"
    with path.open("wb") as file:
        file.truncate(readers.LARGEST + 1)  # takes no disk
    with pytest.raises(UserError, match="more than"):
        readers.read(path)
