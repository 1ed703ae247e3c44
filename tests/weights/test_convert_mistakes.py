"""Wrong weights and wrong flags of `convert` are refused, and nothing is written."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import weight_files
from commands import TOP, error_line
from commands import command as command_line
from conversions import run_convert
from foreign_nets import BLOBS, STATE
from saved_runs import contents

from alexnet_jax.errors import UserError


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
    "the workdir is a run's": (
        ("--from=weights", "--layout=caffe", "--workdir=held"),
        "workdir held holds a run, or the result of one; give another --workdir",
    ),
    "the workdir has a step": (("--from=weights", "--layout=caffe", "--workdir=step"), "step"),
    "the workdir has a result": (
        ("--from=weights", "--layout=caffe", "--workdir=rated"),
        "rated holds a run, or the result of one",
    ),
    "the workdir has predictions": (
        ("--from=weights", "--layout=caffe", "--workdir=predicted"),
        "predicted holds a run, or the result of one",
    ),
    "a config that is not there": (("--from=weights", "--config=x.py"), "x.py"),
    "a flag of another command": (("--from=weights", "--checkpoint=x"), "checkpoint"),
}


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
    Path("rated").mkdir()
    Path("rated/eval.json").write_text("{}")
    Path("predicted").mkdir()
    Path("predicted/predictions.npz").write_bytes(b"")
    before = contents(tmp_path)
    arguments, named = FLAGS[name]
    with pytest.raises(UserError) as mistake:
        run_convert(*arguments)
    assert named in str(mistake.value)
    assert contents(tmp_path) == before


def test_without_the_checkout_a_config_has_to_be_named(tmp_path):
    """Installed alone, the package has no configs beside it."""
    (tmp_path / "alexnet_jax").symlink_to(TOP / "alexnet_jax")
    arguments = ("--from=weights", "--layout=caffe", "--workdir=run")
    done = subprocess.run(
        command_line("convert", *arguments), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and "--config is missing" in error_line(done)
