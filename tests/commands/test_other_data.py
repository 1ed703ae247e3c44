"""A checkpoint and another data set of the same name: through prepare, training and evaluation."""

import json
import shutil

import numpy as np
import pytest
from commands import error_line, run
from PIL import Image
from saved_runs import contents

pytestmark = pytest.mark.slow  # three stores and a training

TRAIN = (
    "--config=configs/base.py", "--config.data.name=folder", "--config.data.image_size=32",
    "--config.data.crop_size=32", "--config.data.batch_size=8", "--config.data.val_fraction=0.25",
    "--config.model.name=four_layer", "--config.train.epochs=2",
)  # fmt: skip


def write_pictures(folder, classes):
    """Writes eight training and two test pictures of noise for each class."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 2)):
        for name in classes:
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The stores `own`, `renamed` (another name of a class), `less` (a picture less), and a run."""
    top = tmp_path_factory.mktemp("data")
    write_pictures(top / "own-pictures", ("ant", "bee"))
    for name in ("renamed", "less"):
        shutil.copytree(top / "own-pictures", top / f"{name}-pictures")
    for split in ("train", "test"):
        (top / "renamed-pictures" / split / "ant").rename(top / "renamed-pictures" / split / "wasp")
    (top / "less-pictures/train/ant/7.png").unlink()
    for name in ("own", "renamed", "less"):
        pictures = f"--source={top / name}-pictures"
        run("prepare", "--name=folder", pictures, f"--dir={top / name}", "--encoding=raw")
    run("main", *TRAIN, f"--config.data.dir={top / 'own'}", f"--workdir={top / 'run'}")
    return top


def evaluate(folder, store, split, code=0):
    return run(
        "main", *TRAIN[:-2], "--mode=eval", f"--workdir={folder / 'run'}",
        f"--config.data.dir={folder / store}", f"--config.eval.split={split}", code=code,
    )  # fmt: skip


@pytest.mark.parametrize(("split", "images"), [("test", 4), ("val", 4)])
def test_the_data_of_the_run_are_evaluated(folder, split, images):
    assert "is not the data set" not in evaluate(folder, "own", split).stdout
    assert json.loads((folder / "run/eval.json").read_text())[f"{split}/examples"] == images


@pytest.mark.parametrize("split", ["test", "val"])
def test_other_class_names_are_refused(folder, split):
    """Renamed, a class has another place among the net's outputs: bee would count as ant."""
    before = contents(folder)
    line = error_line(evaluate(folder, "renamed", split, code=2))
    assert "trained on other data than 'folder' (class 0 is 'bee', not 'ant')" in line
    assert contents(folder) == before


def test_a_validation_split_that_may_have_been_trained_on_is_refused(folder):
    before = contents(folder)
    line = error_line(evaluate(folder, "less", "val", code=2))
    assert "sizes is" in line and "may have been trained on" in line
    assert contents(folder) == before


def test_another_test_split_is_evaluated_and_said(folder):
    out = " ".join(evaluate(folder, "less", "test").stdout.split())  # lines may be wrapped
    assert f"'folder' is not the data set of {folder / 'run'}: sizes is" in out


@pytest.mark.parametrize("store", ["renamed", "less"])
def test_a_run_is_not_resumed_on_other_data(folder, store):
    before = contents(folder)
    arguments = (*TRAIN, "--config.train.epochs=3", f"--workdir={folder / 'run'}")
    line = error_line(run("main", *arguments, f"--config.data.dir={folder / store}", code=2))
    assert "is not the one that this run began with" in line
    assert contents(folder) == before
