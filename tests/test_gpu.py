"""On an NVIDIA GPU a run computes what it does on a CPU, is equal to the bit, and resumes so.

Skipped where there is none. `pytest -m gpu -n 0` runs these alone.
"""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from commands import SMALL, TOP, run
from devices import assert_same
from kills import whole_state

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="no NVIDIA GPU"),
]
GPU = {"JAX_PLATFORMS": "cuda", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
STEPS = """
import sys
import jax, numpy as np
from devices import small, trained
name, dtype, path = sys.argv[1:]
config = small(name)
config.train.compute_dtype = dtype
if "cuda_convnet" in name:
    config.model.width, config.data.crop_size, config.data.image_size = 0.5, 24, 32
params, losses = trained(config, 4)
np.savez(path, losses=losses, platform=jax.devices()[0].platform, **params)
"""


def steps_on(platform, name, path, dtype="float32"):
    """Returns the parameters after four steps and the losses, computed by a process of its own."""
    paths = (str(TOP), f"{TOP}/tests/helpers", os.environ.get("PYTHONPATH", ""))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **platform}
    done = subprocess.run(
        [sys.executable, "-c", STEPS, name, dtype, str(path)],
        cwd=TOP, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(path) as arrays:
        found = dict(arrays)
    assert found.pop("platform") == ("cpu" if platform["JAX_PLATFORMS"] == "cpu" else "gpu")
    return found, list(found.pop("losses"))


@pytest.mark.parametrize(
    "name", ["alexnet", "alexnet_original", "caffe_alexnet", "one_weird_trick"]
)
def test_the_steps_are_those_of_a_cpu(name, tmp_path):
    """In full float32: losses within 1e-5, each parameter within 1e-4 of its norm."""
    exact = {**GPU, "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    ours = steps_on(exact, name, tmp_path / "gpu.npz")
    assert_same(ours, steps_on({"JAX_PLATFORMS": "cpu"}, name, tmp_path / "cpu.npz"))


def test_the_losses_of_locally_connected_layers_are_those_of_a_cpu(tmp_path):
    """Within 1e-4: at ten times its published rate this net makes more of a rounding.

    On an H200 the losses of the four steps differ by up to 5e-5, the first two not at all.
    """
    exact = {**GPU, "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    _, ours = steps_on(exact, "cuda_convnet_11pct", tmp_path / "gpu.npz")
    _, theirs = steps_on({"JAX_PLATFORMS": "cpu"}, "cuda_convnet_11pct", tmp_path / "cpu.npz")
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 3e-3), ("bfloat16", 3e-2)])
def test_the_losses_in_lower_precision_are_near(dtype, bound, tmp_path):
    """float32 products are TF32 by default: 10 bits of mantissa; those of bfloat16 have 7."""
    _, ours = steps_on(GPU, "alexnet", tmp_path / "gpu.npz", dtype)
    _, exact = steps_on({"JAX_PLATFORMS": "cpu"}, "alexnet", tmp_path / "cpu.npz")
    print(
        f"largest relative difference of a loss: {np.max(np.abs(np.divide(ours, exact) - 1)):.1e}"
    )
    assert ours != exact
    np.testing.assert_allclose(ours, exact, rtol=bound)


def test_a_run_in_pieces_is_the_run_in_one_piece_to_the_bit(tmp_path):
    env = {**GPU, "XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    run("main", *SMALL, "--config.train.steps=20", f"--workdir={whole}", env=env)
    for steps in (7, 20):
        run("main", *SMALL, f"--config.train.steps={steps}", f"--workdir={pieces}", env=env)
    one, other = whole_state(whole), whole_state(pieces)
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].tobytes() == other[name].tobytes(), name


def test_an_evaluation_on_a_gpu_is_that_on_a_cpu(tmp_path):
    """The same checkpoint: equal errors, losses within 1e-4, in one view and in ten."""
    run("main", *SMALL, "--config.train.steps=20", f"--workdir={tmp_path}", env=GPU)
    found = []
    for platform in (GPU, {"JAX_PLATFORMS": "cpu"}):
        for views in (1, 10):
            evaluation = ("--mode=eval", f"--config.eval.views={views}")
            exact = {**platform, "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
            run("main", f"--workdir={tmp_path}", *evaluation, env=exact)
            found.append(json.loads((tmp_path / "eval.json").read_text()))
    for ours, theirs in zip(found[:2], found[2:], strict=True):
        assert ours["test/loss"] == pytest.approx(theirs["test/loss"], rel=1e-4)
        assert ours["test/top1_error"] == pytest.approx(theirs["test/top1_error"], abs=0.003)
