"""More of a user's mistakes than test_settings.py has: paths, stores, workdirs, other commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_jax import main
from alexnet_jax.cli import checks, command
from alexnet_jax.errors import UserError
from alexnet_jax.prepare import __main__ as prepare
from configs.base import get_config

TOP = Path(__file__).resolve().parents[2]
BASE = f"--config={TOP / 'configs' / 'base.py'}"
IMAGENET = f"--config={TOP / 'configs' / 'imagenet.py'}"
WORKDIR = "--workdir=run"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with all that the mistakes below point to."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    for name in ("empty", "unfinished/checkpoints/7.saving", "damaged/checkpoints/7"):
        Path(name).mkdir(parents=True)
    for name in ("no_config/checkpoints/7", "broken_config"):
        Path(name).mkdir(parents=True)
    Path("damaged/config.json").write_text(json.dumps(get_config().to_dict(), default=list))
    Path("broken_config/config.json").write_text("{")
    Path("half_store").mkdir()
    Path("half_store/partial.json").write_text("{}")
    Path("partial_store").mkdir()
    Path("partial_store/partial.json").write_text('{"name": ')
    Path("broken_store").mkdir()
    Path("broken_store/manifest.json").write_text('{"version": 2}')
    Path("empty_config.py").write_text("get_config = None\n")
    Path("failing_config.py").write_text("def get_config():\n    return 1 // 0\n")
    return tmp_path


def contents(folder):
    return sorted((str(x), x.stat().st_mtime_ns) for x in folder.rglob("*") if x.is_file())


# The arguments, and what the message must name.
MAIN = {
    "full disk": ((BASE, WORKDIR, "--config.checkpoint.on_full_disk=ask"), "'ask'"),
    "bad record": ((BASE, WORKDIR, "--config.data.on_bad_record=guess"), "'guess'"),
    "full disk as a number": ((BASE, WORKDIR, "--config.checkpoint.on_full_disk=3"), "'3'"),
    "parallel data": ((BASE, WORKDIR, "--config.parallel.data=0"), "parallel.data"),
    "parallel scheme": ((BASE, WORKDIR, "--config.parallel.scheme=magic"), "'magic'"),
    "synthetic images": (
        (BASE, WORKDIR, "--config.data.name=synthetic", "--config.data.synthetic_images=0"),
        "synthetic_images=0",
    ),
    "synthetic classes": (
        (BASE, WORKDIR, "--config.data.name=synthetic", "--config.data.synthetic_classes=1"),
        "synthetic_classes=1",
    ),
    "mean of two numbers": ((BASE, WORKDIR, "--config.data.input_mean=(1.0, 2.0)"), "input_mean"),
    "mean of words": ((BASE, WORKDIR, "--config.data.input_mean=('a','b','c')"), "input_mean"),
    "scale that is no number": (
        (BASE, WORKDIR, "--config.data.input_scale=(1.0, 1.0, float('nan'))"),
        "input_scale",
    ),
    "colour list": ((BASE, WORKDIR, "--config.data.augment.colour_listed=((1,),)"), "(1,)"),
    "flip": ((BASE, WORKDIR, "--config.data.augment.flip=sometimes"), "sometimes"),
    "lrn": ((BASE, WORKDIR, "--config.model.lrn=perhaps"), "perhaps"),
    "parts that do not divide": (
        (BASE, WORKDIR, "--config.train.accumulate_steps=3"),
        "accumulate_steps=3 does not divide the 32 images",
    ),
    "no parts": ((BASE, WORKDIR, "--config.train.accumulate_steps=0"), "accumulate_steps=0"),
    "half precision": ((BASE, WORKDIR, "--config.train.compute_dtype=float16"), "'float16'"),
    "seed": ((BASE, WORKDIR, "--config.seed=one"), "one"),
    "every layer left out": ((BASE, WORKDIR, "--config.model.without=('fc8',)"), "fc8"),
    "a section is no value": ((BASE, WORKDIR, "--config.data=3"), "data"),
    "config without get_config": (("--config=empty_config.py", WORKDIR), "empty_config.py"),
    "config that fails": (("--config=failing_config.py", WORKDIR), "failing_config.py"),
    "config is a folder": (("--config=empty", WORKDIR), "empty"),
    "workdir is a file": ((BASE, "--workdir=file"), "file"),
    "workdir with a damaged checkpoint": ((BASE, "--workdir=damaged"), "damaged/checkpoints/7"),
    "workdir with a broken config": ((BASE, "--workdir=broken_config"), "config.json"),
    "start from a file": ((BASE, WORKDIR, "--config.init_from=file"), "no checkpoint in file"),
    "start from an empty folder": ((BASE, WORKDIR, "--config.init_from=empty"), "empty"),
    "start from what was not finished": (
        (BASE, WORKDIR, "--config.init_from=unfinished"),
        "no checkpoint in unfinished",
    ),
    "start from a damaged step": (
        (BASE, WORKDIR, "--config.init_from=damaged/checkpoints/7"),
        "damaged/checkpoints/7 is bad",
    ),
    "start from a step that is not there": (
        (BASE, WORKDIR, "--config.init_from=damaged/checkpoints/8"),
        "damaged/checkpoints/8",
    ),
    "evaluate a damaged workdir": (
        (BASE, "--mode=eval", "--workdir=damaged"),
        "no good checkpoint in damaged",
    ),
    "evaluate without a config": (
        (BASE, "--mode=eval", "--checkpoint=no_config"),
        "no_config/checkpoints/7 is bad",
    ),
    "one of two is missing": (
        (BASE, "--mode=eval", "--checkpoint=damaged,gone", WORKDIR),
        "damaged",
    ),
    "a flag without its value": ((BASE, WORKDIR, "--mode"), "mode"),
    "mode in capitals": ((BASE, WORKDIR, "--mode=TRAIN"), "TRAIN"),
    "probabilities in training": ((BASE, WORKDIR, "--probabilities=p.npz"), "--probabilities"),
    "half-written store": (
        (BASE, WORKDIR, "--config.data.name=folder", "--config.data.dir=half_store"),
        "half-written",
    ),
    "broken store": (
        (BASE, WORKDIR, "--config.data.name=folder", "--config.data.dir=broken_store"),
        "broken_store/manifest.json",
    ),
    "no store": (
        (BASE, WORKDIR, "--config.data.name=folder", "--config.data.dir=empty"),
        "prepare --name=folder --source=DIR --dir=empty",
    ),
    "classes that are not the data's": (
        (IMAGENET, "--config.data.name=digits", "--config.data.image_size=256", WORKDIR),
        "1000",
    ),
    "plateau without validation": ((BASE, WORKDIR, "--config.data.val_fraction=0.0"), "plateau"),
}
PREPARE = {
    "no name": ((), "--name is missing"),
    "a name with a typing error": (("--name=imagenet2021", "--dir=s"), "imagenet2012"),
    "embedded": (("--name=digits", "--dir=s"), "needs no preparation"),
    "no source": (("--name=folder", "--dir=s"), "--source is missing"),
    "source is gone": (("--name=folder", "--source=gone", "--dir=s"), "gone"),
    "source is a file": (("--name=folder", "--source=file", "--dir=s"), "file"),
    "source is empty": (("--name=folder", "--source=empty", "--dir=s"), "no folder `train`"),
    "no tar files": (("--name=imagenet2012", "--source=empty", "--dir=s"), "ILSVRC2012_img_train"),
    "a negative size": (("--name=cifar10", "--image_size=-1", "--dir=s"), "-1"),
    "a size in words": (("--name=cifar10", "--image_size=big", "--dir=s"), "big"),
    "an unknown encoding": (("--name=cifar10", "--encoding=webp", "--dir=s"), "webp"),
    "an unknown policy": (("--name=cifar10", "--on_bad_image=ask", "--dir=s"), "ask"),
    "dir is a file": (("--name=cifar10", "--dir=file"), "file"),
    "dir holds something else": (("--name=cifar10", "--dir=damaged"), "not empty"),
    "dir holds another store's beginning": (
        ("--name=folder", "--source=empty", "--dir=half_store"),
        "begun with name=None",
    ),
    "dir holds a cut beginning": (
        ("--name=folder", "--source=empty", "--dir=partial_store"),
        "partial.json",
    ),
    "dir holds a broken store": (("--name=folder", "--dir=broken_store"), "manifest.json"),
    "a flag of another command": (("--name=cifar10", "--workdir=x"), "workdir"),
}


def refused(check, arguments, named):
    with pytest.raises(UserError) as mistake:
        check(*arguments)
    assert named in str(mistake.value), str(mistake.value)
    assert "\n" not in str(mistake.value)


def check_main(*arguments):
    values = command.parse(["main", *arguments], main.define_flags, with_config=True)
    checks.check(values)


def check_prepare(*arguments):
    prepare.main(command.parse(["prepare", *arguments], prepare.define_flags))


@pytest.mark.parametrize(("arguments", "named"), MAIN.values(), ids=MAIN)
def test_main_refuses(folder, arguments, named):
    before = contents(folder)
    refused(check_main, arguments, named)
    assert contents(folder) == before


@pytest.mark.parametrize(("arguments", "named"), PREPARE.values(), ids=PREPARE)
def test_prepare_refuses(folder, arguments, named):
    before = contents(folder)
    refused(check_prepare, arguments, named)
    assert contents(folder) == before


SHELL = ["full disk", "parallel scheme", "config that fails", "workdir is a file"]
SHELL += ["workdir with a damaged checkpoint", "start from a damaged step", "broken store", "lrn"]
WITHOUT_TENSORFLOW = """
import sys
from alexnet_jax import command, main
try:
    command.run(main.main, main.define_flags, main.__doc__, with_config=True)
finally:
    assert "tensorflow" not in sys.modules, "TensorFlow was imported first"
"""


@pytest.mark.parametrize("case", SHELL)
def test_through_the_shell_it_is_exit_code_2_and_one_line(folder, case):
    """And TensorFlow, which takes seconds, has not been imported."""
    before = contents(folder)
    arguments, named = MAIN[case]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TOP)},
        timeout=120,
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == ""
    assert line.startswith("error: ") and named in line
    assert contents(folder) == before


def test_there_are_sixty():
    import test_settings

    here = len(MAIN) + len(PREPARE)
    assert here + len(test_settings.VALUES) + len(test_settings.CASES) >= 60
