"""The benchmark: its arithmetic by hand, its store, a run watched, and the command itself."""

import io
import json
import sys
import time

import numpy as np
import psutil
import pytest
from commands import error_line, run, start
from PIL import Image

from alexnet_jax import parallel
from alexnet_jax.benchmark import __main__ as benchmark
from alexnet_jax.benchmark import measures, rates, report, starts
from alexnet_jax.benchmark.jpegs import jpegs
from alexnet_jax.benchmark.synthetic_store import write_synthetic
from alexnet_jax.benchmark.training import Training, flops_per_image, roof
from alexnet_jax.cli import command
from alexnet_jax.data import open_dataset
from alexnet_jax.data.pipeline import evaluation_batches
from alexnet_jax.data.store import open_store
from alexnet_jax.errors import UserError
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
    argv = benchmark.with_default_config(["benchmark", *arguments])
    return command.parse(argv, benchmark.define_flags, with_config=True)


def config_of(*arguments):
    values = parsed(*arguments)
    return benchmark.check(values)


# --- arithmetic ---------------------------------------------------------------------------------


def test_alexnet_takes_4_14_gflop_an_image():
    config = imagenet.get_config()
    conv1 = 55 * 55 * 96 * 11 * 11 * 3  # the images need no gradient
    assert flops_per_image(config) == 2 * (3 * 724_406_816 - conv1) == 4_135_610_496


def test_a_result_is_waited_for_when_the_next_is_under_way(monkeypatch):
    events, clock = [], iter(range(100))
    monkeypatch.setattr(rates.time, "perf_counter", lambda: next(clock))
    numbers = iter(range(100))

    def work():
        number = next(numbers)
        events.append(f"begin {number}")
        return number

    def wait(number):
        events.append(f"end {number}")

    # The clock ticks once when begun, at each look and at the end: looks after calls 2, 3 and 4.
    assert rates.rate(work, amount=10, seconds=3, wait=wait) == 4 * 10 / 4
    assert events == [
        *("begin 0", "begin 1", "end 0", "begin 2", "end 1", "begin 3", "end 2", "end 3")
    ]


def test_measures_take_turns():
    numbers = iter(range(100))
    each = {"a": lambda: next(numbers), "b": lambda: next(numbers)}
    assert rates.in_turn(each, 3) == {"a": [0, 2, 4], "b": [1, 3, 5]}


def test_ratios_are_of_the_same_repeat():
    found = measures.ratios(
        {
            measures.ROOF: [100.0, 200.0],
            measures.STEP: [10.0, 30.0],
            measures.LOADER: [60.0, 60.0],
            measures.BOTH: [9.0, 30.0],
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


def test_growth_is_of_what_is_kept():
    assert starts.growth([5, 3, 9, 4, 8, 7]) == 4 - 3
    assert starts.growth([5, 3, 9, 2, 8]) == 2 - 3


def test_the_record_has_medians_and_the_range():
    found = report.record({"a": [3.0, 1.0, 2.00004]}, {"b": 12345.6}, {"model": "x"})
    assert found == {"a": 2.0, "b": 12350.0, "model": "x", "repeats": 3, "spread": {"a": [1, 3]}}


# --- the temporary store ------------------------------------------------------------------------


@pytest.mark.parametrize(("encoding", "near"), [("raw", 0), ("jpeg", 24)])
def test_the_store_holds_images_of_their_own(tmp_path, encoding, near):
    """Noise of ±20 around a pattern that every sixteenth image shares."""
    data = base.get_config().data
    data.synthetic_images, data.synthetic_classes, data.image_size = 33, 3, 32
    write_synthetic(tmp_path / "store", data, encoding)
    split = open_store(tmp_path / "store").splits["train"]
    assert split.labels.tolist() == [0, 1, 2] * 11
    files = [np.asarray(Image.open(io.BytesIO(x)), float) for x in jpegs(split)]
    batch = next(evaluation_batches(split, 33, device_bytes=0))
    images = np.asarray(batch["image"], float)
    alike = np.abs(images[1] - images[17])
    assert 20 < alike.max() <= 40 + near
    assert np.abs(images[1] - images[2]).max() > 64
    assert len(files) == 33
    for file, image in zip(files, images, strict=True):  # a JPEG halves the colours' resolution
        assert np.abs(file.mean((0, 1)) - image.mean((0, 1))).max() < 2


# --- in this process ----------------------------------------------------------------------------


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_batch_trains_once(devices):
    """Two calls from the store are three batches: one is not counted."""
    config = config_of(*TINY, f"--config.parallel.data={devices}")
    training = Training(config, open_dataset(config.data))
    steps = [int(training.state.step)]
    for measure in (training.on_device, training.loader, training.from_store):
        assert measure(0.0) > 0
        steps.append(int(training.state.step))
    assert np.diff(steps).tolist() == [2, 0, 3]
    assert training.mesh.size == devices


@pytest.mark.slow
def test_the_roof_counts_all_devices():
    config = config_of(*TINY, "--config.parallel.data=2")
    measure = roof(parallel.make_mesh(parallel.layout_of(config.parallel)))
    assert measure(0.0) > 1


# --- mistakes -----------------------------------------------------------------------------------


def test_base_is_the_config_unless_one_is_named():
    assert benchmark.with_default_config(["x", "--seconds=1"])[1] == "--config=configs/base.py"
    for named in (["x", "--config=a.py"], ["x", "--config", "a.py"], ["x", "-config=a.py"]):
        assert benchmark.with_default_config(named) == named
    values = parsed("--config.data.batch_size=7")
    assert values.config.data.batch_size == 7
    assert benchmark.arguments_of(values) == [
        "--config=configs/base.py",
        "--config.data.batch_size=7",
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--against=theano"], "theano"),
        (["--encoding=png"], "png"),
        (["--encoding=raw"], "--encoding=raw is for data.name=synthetic, not digits"),
        (["--repeats=0"], "--repeats"),
        (["--seconds=-1"], "--seconds"),
        (["--seconds=nan"], "--seconds"),
        (["--profile=README.md/x"], "profile README.md/x is not writable"),
        (["--config.data.batch_size=0"], "data.batch_size=0"),
        (["--config.parallel.data=3"], "data.batch_size=32"),
        (["--config.data.name=imagenet2012"], "imagenet2012"),
        (["--config.data.val_fraction=0.0"], "optim.schedule='plateau'"),
        ([*TINY, "--config.model.num_classes=3"], "model.num_classes=3"),
    ],
)
def test_a_mistake_is_told_before_anything_is_done(wrong, said):
    with pytest.raises(UserError) as fault:
        config_of(*wrong)
    assert said in str(fault.value)


def test_without_torch_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"pip install torch==2\.13\.0"):
        config_of("--against=torch")


def test_a_mistake_is_one_line_and_code_2():
    assert "theano" in error_line(run("benchmark", "--against=theano", code=2))


def test_what_a_watched_run_says_is_passed_on(tmp_path):
    with pytest.raises(UserError, match="seed=-1"):
        starts.watch(["--config=configs/base.py", "--config.seed=-1"], tmp_path, 0.0)


# --- the command --------------------------------------------------------------------------------


def measured(tmp_path, *arguments, env=None):
    """The last line of the command, whose temporary files have to be gone."""
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
    assert found["rss_steps"] >= starts.FEWEST
    assert (found["encoding"], found["images"], found["batch_size"]) == ("jpeg", 40, 16)
    assert not found["held_on_device"] and found["model"] == "four_layer"
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))
    assert "step ÷ roof" in out and "PyTorch" not in out


@pytest.mark.slow
def test_terminated_it_ends_the_run_that_it_watches(tmp_path):
    """And removes its files."""
    process = start("benchmark", *TINY, "--seconds=1000", env={"TMPDIR": str(tmp_path)})
    watched = []
    while not watched:
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
        watched = psutil.Process(process.pid).children()
    process.terminate()
    process.communicate()
    assert process.returncode == 143
    assert not any(child.is_running() for child in watched)
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
    assert np.isfinite(found["rss_growth_mb"])  # also where steps are quicker than looks
    assert found["versions"]["torch"]


def test_help_has_an_example():
    out = run("benchmark", "--help").stdout
    assert "python -m alexnet_jax.benchmark" in out and "--profile" in out
