"""The trained nets in results/nets give what their model cards say."""

import json
import re

import numpy as np
import pytest
from commands import TOP, error_line, run

import alexnet_jax
from alexnet_jax.data import open_dataset
from alexnet_jax.data.records import read_images
from alexnet_jax.preprocess import centre_crop

DIGITS = TOP / "results" / "nets" / "digits"


def test_the_published_digits_net_has_the_error_of_its_card():
    model, variables, config = alexnet_jax.load(DIGITS)
    split = open_dataset(config.data).splits["test"]
    images = read_images(split, np.arange(len(split)))
    crops = np.stack([centre_crop(image, config.data.crop_size) for image in images])
    stats = variables["input"]
    logits, _ = model.apply(variables, (crops - np.asarray(stats["mean"])) * stats["scale"])
    wrong = np.asarray(logits).argmax(1) != np.asarray(split.labels)
    card = (DIGITS / "README.md").read_text()
    (said,) = re.findall(r"([\d.]+) % top-1 error", card)
    assert f"{100 * wrong.mean():.2f}" == said


def test_a_published_net_is_small():
    for folder in (TOP / "results" / "nets").iterdir():
        assert (folder / "model.safetensors").stat().st_size < 2_000_000, folder


@pytest.mark.slow
def test_a_published_net_becomes_a_workdir_that_is_evaluated_and_trained_on_from(tmp_path):
    """At rate 0 the run on five classes of noise keeps what it took over."""
    workdir, second = tmp_path / "published", tmp_path / "second"
    assert "325,114 parameters" in run("convert", f"--from={DIGITS}", f"--workdir={workdir}").stdout
    run("main", "--mode=eval", f"--workdir={workdir}", "--config=configs/base.py")
    error = json.loads((workdir / "eval.json").read_text())["test/top1_error"]
    assert f"{100 * error:.2f} % top-1 error" in (DIGITS / "README.md").read_text()
    out = run(
        "main", "--config=configs/base.py", f"--config.init_from={workdir}",
        "--config.data.name=synthetic", "--config.data.synthetic_classes=5",
        "--config.data.synthetic_images=64", "--config.data.image_size=80",
        "--config.optim.learning_rate=0.0", "--config.train.steps=1", f"--workdir={second}",
    ).stdout  # fmt: skip
    assert "trained on pictures of 72 pixels, these have 80" in " ".join(out.split())
    assert "fc8 is drawn anew, for 5 classes" in out
    published, ours = (alexnet_jax.load(x)[1] for x in (DIGITS, second))
    np.testing.assert_array_equal(ours["input"]["mean"], published["input"]["mean"])
    for layer in ("conv1", "fc7"):
        np.testing.assert_array_equal(
            ours["params"][layer]["kernel"], published["params"][layer]["kernel"]
        )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("main --config=configs/base.py --workdir=run --config.init_from={net}", "convert --from="),
        ("main --config=configs/base.py --mode=eval --checkpoint={net}", "--workdir=runs/digits"),
        ("convert --from={net} --workdir=run --layout=caffe", "--layout is for files of weights"),
        (
            "convert --from={net} --workdir=run --config=configs/cifar10.py",
            "--config is for files of weights",
        ),
        ("convert --from={net} --workdir=run --config.seed=3", "--config.seed is for files"),
        ("convert --from={net}", "--workdir is missing"),
    ],
)
def test_an_exported_folder_in_the_place_of_a_workdir_is_refused(arguments, said, tmp_path):
    module, *flags = arguments.format(net=DIGITS).split()
    flags = [x.replace("configs/", f"{TOP}/configs/") for x in flags]
    env = {"PYTHONPATH": str(TOP)}
    assert said in error_line(run(module, *flags, code=2, cwd=tmp_path, env=env))
    assert list(tmp_path.iterdir()) == []
