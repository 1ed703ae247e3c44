"""The benchmark: arithmetic by hand, the synthetic store, a measured run, and the command."""

import io
import json
import sys
import time

import numpy as np
import psutil
import pytest
from commands import run, start
from PIL import Image

from alexnet_jax import parallel
from alexnet_jax.benchmark import __main__ as benchmark
from alexnet_jax.benchmark import measures, rates, report, start_up
from alexnet_jax.benchmark.jpegs import jpegs
from alexnet_jax.benchmark.synthetic_store import write_synthetic
from alexnet_jax.benchmark.training import Training, matmul_rate
from alexnet_jax.cli import command, config_flag
from alexnet_jax.data import open_dataset
from alexnet_jax.data.pipeline import evaluation_batches
from alexnet_jax.data.store import open_store
from alexnet_jax.errors import UserError
from alexnet_jax.nets.flops import flops_per_image
from alexnet_jax.nets.variants import resolve
from configs import base, imagenet

TINY = (  # a net that compiles in a second or two
    "--config=configs/cifar10.py",
    "--config.data.name=synthetic",
    "--config.data.synthetic_images=40",
    "--config.data.image_size=24",
    "--config.data.crop_size=20",
    "--config.data.batch_size=16",
    "--config.data.device_megabytes=0",
    "--config.model.name=four_layer",
    "--config.model.width=0.25",
)
BRIEFLY = ("--repeats=1", "--seconds=0")


def parsed(*arguments):
    argv = config_flag.with_default(["benchmark", *arguments], benchmark.CONFIG)
    return command.parse(argv, benchmark.define_flags, with_config=True)


def config_of(*arguments):
    return benchmark.resolved(parsed(*arguments))


# --- arithmetic ---------------------------------------------------------------------------------


def test_alexnet_takes_4_14_gflop_an_image():
    net = resolve(imagenet.get_config().model, 224)
    conv1 = 55 * 55 * 96 * 11 * 11 * 3  # the images need no gradient
    assert flops_per_image(net) == 2 * (3 * 724_406_816 - conv1) == 4_135_610_496


def test_rate_waits_for_a_result_after_the_next_call_starts(monkeypatch):
    events, clock = [], iter(range(100))
    monkeypatch.setattr(rates.time, "perf_counter", lambda: next(clock))
    numbers = iter(range(100))

    def work():
        number = next(numbers)
        events.append(f"start {number}")
        return number

    def wait(number):
        events.append(f"wait {number}")

    # The clock ticks at the start, after calls 2, 3 and 4, and at the end.
    assert rates.rate(work, amount=10, seconds=3, wait=wait) == 4 * 10 / 4
    assert events == [
        *("start 0", "start 1", "wait 0", "start 2", "wait 1", "start 3", "wait 2", "wait 3")
    ]


def test_interleave_measures_each_once_per_repeat():
    numbers = iter(range(100))
    each = {"a": lambda: next(numbers), "b": lambda: next(numbers)}
    assert rates.interleave(each, 3) == {"a": [0, 2, 4], "b": [1, 3, 5]}


def test_ratios_divide_rates_of_the_same_repeat():
    found = measures.derived_ratios(
        {
            measures.MATMUL: [100.0, 200.0],
            measures.STEP: [10.0, 30.0],
            measures.LOADER: [60.0, 60.0],
            measures.END_TO_END: [9.0, 30.0],
            measures.DECODER: [80.0, 100.0],
            measures.TORCH: [5.0, 10.0],
            measures.TORCH_KEEPING: [8.0, 20.0],
            measures.TORCH_LOADER: [20.0, 30.0],
        },
        flops_per_image=2 * 10**9,
    )
    assert found == {
        "roof_fraction": [10 / 50, 30 / 100],
        "end_to_end_fraction": [0.9, 1.0],
        "loader_decoder_fraction": [0.75, 0.6],
        "ratio": [2.0, 3.0],
        "ratio_keeping_memory": [1.25, 1.5],
        "torch_loader_ratio": [3.0, 2.0],
    }


def test_growth_compares_the_minima_of_both_halves():
    assert start_up.growth([5, 3, 9, 4, 8, 7]) == 4 - 3
    assert start_up.growth([5, 3, 9, 2, 8]) == 2 - 3


def test_the_record_has_medians_and_ranges():
    found = report.record({"a": [3.0, 1.0, 2.00004]}, {"b": 12345.6}, {"model": "x"})
    assert found == {"a": 2.0, "b": 12350.0, "model": "x", "repeats": 3, "spread": {"a": [1, 3]}}


# --- the temporary store ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "near"), [pytest.param("raw", 0, marks=pytest.mark.slow), ("jpeg", 24)]
)
def test_the_synthetic_store_holds_distinct_images(tmp_path, encoding, near):
    """Noise of ±20 around a pattern that every sixteenth image shares."""
    data = base.get_config().data
    data.synthetic_images, data.synthetic_classes, data.image_size = 33, 3, 32
    write_synthetic(tmp_path / "store", data, encoding)
    split = open_store(tmp_path / "store").splits["train"]
    assert split.labels.tolist() == [0, 1, 2] * 11
    files = [np.asarray(Image.open(io.BytesIO(x)), float) for x in jpegs(split)]
    batch = next(evaluation_batches(split, 33, device_bytes=0))
    images = np.asarray(batch["image"], float)
    same_pattern = np.abs(images[1] - images[17])
    assert 20 < same_pattern.max() <= 40 + near
    assert np.abs(images[1] - images[2]).max() > 64
    assert len(files) == 33
    for file, image in zip(files, images, strict=True):  # a JPEG halves the colours' resolution
        assert np.abs(file.mean((0, 1)) - image.mean((0, 1))).max() < 2


# --- in this process ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_each_measurement_takes_the_expected_steps(devices):
    """Two timed steps on batches from the data set are three batches: the first is not timed."""
    config = config_of(*TINY, f"--config.parallel.data={devices}")
    training = Training(config, open_dataset(config.data))
    steps = [int(training.state.step)]
    for measure in (training.step_rate, training.loader_rate, training.end_to_end_rate):
        assert measure(0.0) > 0
        steps.append(int(training.state.step))
    assert np.diff(steps).tolist() == [2, 0, 3]
    assert training.devices.mesh.size == devices


@pytest.mark.slow
def test_the_matrix_product_runs_on_all_devices():
    config = config_of(*TINY, "--config.parallel.data=2")
    measure = matmul_rate(parallel.make_devices(parallel.layout_of(config.parallel)))
    assert measure(0.0) > 1


# --- mistakes -----------------------------------------------------------------------------------


def test_the_flags_of_the_config_are_passed_on():
    values = parsed("--config.data.batch_size=7")
    assert values.config.data.batch_size == 7
    assert benchmark.config_arguments(values) == [
        f"--config={config_flag.CONFIGS / 'base.py'}",
        "--config.data.batch_size=7",
    ]


def test_a_measured_run_goes_on_until_it_is_killed_whatever_its_config_says():
    """Runs that compare activations end at a training error, which a small net reaches at once."""
    config = parsed("--config.train.stop_at_train_error=0.25", *start_up.STEP_BY_STEP).config
    assert config.train.stop_at_train_error == 0 and config.train.steps == 10**9


def test_a_missing_torch_names_the_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"pip install torch==2\.13\.0"):
        config_of("--against=torch")


@pytest.mark.parametrize(
    "setting",
    [
        "train.compute_dtype=bfloat16",
        "train.accumulate_steps=2",
        "train.label_smoothing=0.1",
        "train.ema_decay=0.9",
        "optim.name=lars",
        "parallel.data=2",
        "parallel.tower=2",
    ],
)
def test_a_step_that_torch_does_not_take_is_not_compared_with_its_own(setting):
    key, _, value = setting.partition("=")
    with pytest.raises(UserError, match=rf"--against=torch measures .*{key}=.*, not '?{value}"):
        config_of(*TINY, f"--config.{setting}", "--against=torch")


def test_the_error_of_a_measured_run_is_passed_on(tmp_path):
    with pytest.raises(UserError, match="seed=-1"):
        start_up.profile_start_up(["--config=configs/base.py", "--config.seed=-1"], tmp_path, 0.0)


# --- the command --------------------------------------------------------------------------------


def measured(tmp_path, *arguments, env=None):
    """Returns the output and the record of the command; its temporary files have to be gone."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {"TMPDIR": str(scratch), **(env or {})}
    out = run("benchmark", *TINY, *BRIEFLY, *arguments, env=environment).stdout
    assert not list(scratch.glob("alexnet_benchmark*"))
    return out, json.loads(out.splitlines()[-1])


@pytest.mark.slow
def test_the_command(tmp_path):
    out, found = measured(tmp_path, "--encoding=jpeg", f"--profile={tmp_path / 'trace'}")
    for key in (
        *("step_images_per_second", "matmul_gflops", "roof_fraction", "loader_images_per_second"),
        *("decoder_images_per_second", "end_to_end_images_per_second", "first_step_seconds"),
        *("second_start_seconds", "peak_rss_mb"),
    ):
        assert found[key] > 0, key
    step, flops = found["step_images_per_second"], found["training_flops_per_image"]
    assert found["roof_fraction"] == pytest.approx(
        step * flops / found["matmul_gflops"] / 1e9, rel=0.01
    )
    assert found["peak_rss_mb"] > 100  # jax alone has more
    assert found["rss_steps"] >= start_up.MIN_STEPS
    assert (found["encoding"], found["images"], found["batch_size"]) == ("jpeg", 40, 16)
    assert not found["held_on_device"] and found["model"] == "four_layer"
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))
    assert "step ÷ roof" in out and "PyTorch" not in out
    lines = out.splitlines()[:-1]
    assert all(len(line) <= 80 for line in lines[lines.index("") :]), out


@pytest.mark.slow
def test_sigterm_ends_the_measured_run_and_removes_the_files(tmp_path):
    process = start("benchmark", *TINY, "--seconds=1000", env={"TMPDIR": str(tmp_path)})
    children = []
    while not children:
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
        children = psutil.Process(process.pid).children()
    process.terminate()
    process.communicate()
    assert process.returncode == 143
    assert not any(child.is_running() for child in children)
    assert not list(tmp_path.glob("alexnet_benchmark*"))


@pytest.mark.slow
def test_the_command_on_two_devices(tmp_path):
    two = "--config.parallel.data=2"
    _, found = measured(tmp_path, two, env={"JAX_NUM_CPU_DEVICES": "2"})
    assert found["devices"] == 2 and found["encoding"] == "raw"


@pytest.mark.slow
def test_the_command_against_torch(tmp_path):
    pytest.importorskip("torch")
    _, found = measured(tmp_path, "--against=torch")
    assert found["ratio"] == pytest.approx(
        found["step_images_per_second"] / found["torch_images_per_second"], rel=0.01
    )
    assert found["torch_loader_images_per_second"] > 0
    assert np.isfinite(found["rss_growth_mb"])  # even if steps are shorter than a period
    assert found["versions"]["torch"]
