"""A user's mistakes, for all commands: each is one line that says what is wrong and what mends it.

One table of (command, arguments, part of the message).
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bad_values import VALUES
from commands import TOP, error_line
from saved_runs import contents, save_run, write_json

from alexnet_jax.cli import command
from alexnet_jax.errors import UserError
from alexnet_jax.runs import rules, workdir
from configs.base import get_config

BASE = f"--config={TOP / 'configs' / 'base.py'}"
IMAGENET = f"--config={TOP / 'configs' / 'imagenet.py'}"
FINETUNE = f"--config={TOP / 'configs' / 'finetune.py'}"
RUN = "--workdir=run"
FOLDER = "--config.data.name=folder"
SYNTHETIC = "--config.data.name=synthetic"
TWO_TOWERS = "--config.parallel.tower=2"
CLASSES = "--config.model.num_classes=10"


TABLE = [
    *(("main", (BASE, RUN, f"--config.{key}={value}"), said) for key, value, said in VALUES),
    (
        "main",
        (BASE, RUN, "--config.optim.layer_factors=(('conv1', 0),)",
         "--config.optim.listed_layers=(('conv1', 5, 0.1),)"),
        "optim.listed_layers and optim.layer_factors both name 'conv1'",
    ),
    (
        "main",
        (BASE, RUN, "--config.model.name=alexnet_batch_norm", "--config.train.accumulate_steps=2"),
        "batch normalisation needs the whole batch at once; use 1, more devices",
    ),
    ("main", (FINETUNE, RUN, "--config.data.name=digits"), "no checkpoint in runs/pretrained"),
    ("main", (BASE, RUN, "--config.data.batchsize=3"), "batchsize"),
    ("main", (BASE, RUN, "--config.dta.batch_size=3"), "dta"),
    ("main", (BASE, RUN, "--mode=test"), "--mode=test"),
    ("main", (BASE, RUN, "--mode=TRAIN"), "--mode=TRAIN"),
    ("main", (BASE, RUN, "--mode"), "mode"),
    ("main", (BASE, RUN, "--wrkdir=x"), "wrkdir"),
    ("main", (BASE, RUN, "train"), "'train'"),
    ("main", (RUN,), "--config"),
    ("main", (BASE, IMAGENET, RUN), "--config is given more than once; give it once"),
    ("main", ("--config=configs/nothing.py", RUN), "configs/nothing.py"),
    ("main", ("--config=broken_config.py", RUN), "broken_config.py"),
    ("main", ("--config=empty_config.py", RUN), "empty_config.py"),
    ("main", ("--config=failing_config.py", RUN), "failing_config.py"),
    ("main", ("--config=empty", RUN), "empty"),
    ("main", (BASE, RUN, "--checkpoint=run"), "--checkpoint is for --mode=eval, not --mode=train"),
    ("main", (BASE, RUN, "--probabilities=p.npz"), "--probabilities is for --mode=eval"),
    ("main", (BASE, RUN, "--submission=a.txt"), "--submission is for --mode=eval"),
    ("main", (BASE, "--workdir=file"), "workdir file is not writable"),
    ("main", (BASE, "--workdir=file/run"), "workdir file/run is not writable (", ),
    ("main", (BASE, "--workdir=damaged"), "damaged/checkpoints/7"),
    ("main", (BASE, "--workdir=no_config"), "no_config/config.json"),
    ("main", (BASE, "--workdir=broken_config"), "broken_config/config.json cannot be read"),
    ("main", (BASE, RUN, "--config.init_from=gone"), "no checkpoint in gone; name the workdir of"),
    ("main", (BASE, RUN, "--config.init_from=gone"), "alexnet_jax.convert --from=FILE"),
    ("main", (BASE, RUN, "--config.init_from=file"), "no checkpoint in file"),
    ("main", (BASE, RUN, "--config.init_from=empty"), "no checkpoint in empty"),
    ("main", (BASE, RUN, "--config.init_from=unfinished"), "no checkpoint in unfinished"),
    ("main", (BASE, RUN, "--config.init_from=damaged/checkpoints/7"), "checkpoints/7 is bad"),
    ("main", (BASE, RUN, "--config.init_from=saved/checkpoints/8"), "the steps of saved are: 7"),
    ("main", (BASE, RUN, "--config.init_from=no_config"), "no_config has no config.json"),
    ("main", (BASE, "--mode=eval"), "give --workdir or --checkpoint"),
    ("main", (BASE, "--mode=eval", RUN), "check the path, or train with --workdir=run first"),
    ("main", (BASE, "--mode=eval", "--checkpoint=gone"), "no checkpoint in gone"),
    ("main", (BASE, "--mode=eval", "--workdir=damaged"), "no good checkpoint in damaged"),
    ("main", (BASE, "--mode=eval", "--checkpoint=no_config"), "no_config has no config.json"),
    ("main", (BASE, "--mode=eval", "--checkpoint=saved,gone", RUN), "no checkpoint in gone"),
    ("main", (BASE, "--mode=eval", "--checkpoint=saved,saved", RUN), "names a checkpoint twice"),
    (
        "main",
        (BASE, "--mode=eval", "--checkpoint=saved,./saved/checkpoints/7", RUN),
        "names a checkpoint twice (saved and saved/checkpoints/7); leave one out",
    ),
    (
        "main",
        (BASE, "--mode=eval", "--workdir=saved", "--probabilities=p.txt"),
        "--probabilities=p.txt has to end in .npz",
    ),
    (
        "main",
        (BASE, "--mode=eval", "--workdir=saved", "--submission=empty"),
        "--submission=empty is a folder; give a file",
    ),
    ("main", (BASE, "--mode=eval", "--checkpoint=saved,", RUN), "--checkpoint=saved, has nothing"),
    ("report", ("--workdir=saved,",), "--workdir=saved, has nothing beside a comma"),
    (
        "main",
        (BASE, "--mode=eval", "--workdir=saved", "--probabilities=file/p.npz"),
        "file/p.npz is not writable",
    ),
    ("main", (BASE, RUN, FOLDER, "--config.data.dir=half_store"), "half-written"),
    ("main", (BASE, RUN, FOLDER, "--config.data.dir=broken_store"), "broken_store/manifest.json"),
    (
        "main",
        (BASE, RUN, FOLDER, "--config.data.dir=pictures"),
        "pictures is no store: if it holds your pictures, write a store of them with",
    ),
    ("main", (BASE, RUN, FOLDER, "--config.data.dir=empty"), "prepare --name=folder --source=DIR"),
    ("main", (IMAGENET, RUN, "--config.data.dir=gone"), "prepare --name=imagenet2012 --source=DIR"),
    ("main", (IMAGENET, RUN, "--config.data.dir=gone"), "ILSVRC2012_img_train.tar"),
    ("main", (IMAGENET, RUN, "--config.data.dir=gone"), "ILSVRC2012_img_val.tar"),
    (
        "main",
        (BASE, RUN, "--config.parallel.data=64", "--config.data.batch_size=64",
         "--config.eval.batch_size=64"),
        "needs 64 devices, but there are",
    ),
    ("main", (BASE, RUN, "--config.parallel.data=3"), "data.batch_size=32 does not divide"),
    ("main", (BASE, RUN, "--config.parallel.data=32", "--config.eval.batch_size=100"),
     "eval.batch_size=100"),
    ("main", (BASE, RUN, "--config.parallel.tower=3"), "does not divide the net's 2 tower(s)"),
    ("main", (BASE, RUN, TWO_TOWERS, "--config.model.name=one_weird_trick"), "1 tower(s)"),
    ("main", (BASE, RUN, TWO_TOWERS, "--config.model.name=caffenet"), "over the border"),
    ("main", (BASE, RUN, "--config.model.towers=5"), "model.towers=5 does not divide"),
    ("main", (BASE, RUN, "--config.parallel.scheme=hybrid"), "parallel.data, which is 1"),
    (
        "main",
        (BASE, RUN, "--config.parallel.scheme=hybrid", "--config.parallel.data=5",
         "--config.data.batch_size=160", "--config.eval.batch_size=5",
         "--config.model.width=0.0625"),
        "fc6's 128 units a tower do not divide over parallel.data=5",
    ),
    ("main", (BASE, RUN, "--coordinator=127.0.0.1:1", "--process_id=3"), "--process_id=3"),
    ("main", (BASE, RUN, "--num_processes=2"), "--process_id need --coordinator, the same for"),
    ("main", (BASE, RUN, "--process_id=1"), "--process_id need --coordinator, the same for"),
    *(
        ("main", (BASE, RUN, f"--coordinator={wrong}", "--num_processes=2"),
         f"--coordinator={wrong} is no host:port")
        for wrong in ("localhost", "localhost:", ":29500", "localhost:none")
    ),
    ("prepare", (), "--name is missing"),
    ("prepare", ("--name=imagenet2021", "--dir=s"), "imagenet2012"),
    ("prepare", ("--name=digits", "--dir=s"), "needs no preparation"),
    ("prepare", ("--name=folder", "--dir=s"), "--source is missing"),
    ("prepare", ("--name=folder", "--source=gone", "--dir=s"), "gone"),
    ("prepare", ("--name=folder", "--source=file", "--dir=s"), "file"),
    ("prepare", ("--name=folder", "--source=empty", "--dir=s"), "no folder `train`"),
    ("prepare", ("--name=imagenet2012", "--source=empty", "--dir=s"), "ILSVRC2012_img_train"),
    ("prepare", ("--name=cifar10", "--image_size=-1", "--dir=s"), "-1"),
    ("prepare", ("--name=cifar10", "--image_size=big", "--dir=s"), "big"),
    ("prepare", ("--name=cifar10", "--encoding=webp", "--dir=s"), "webp"),
    ("prepare", ("--name=cifar10", "--on_bad_image=ask", "--dir=s"), "ask"),
    ("prepare", ("--name=cifar10", "--dir=file"), "file"),
    ("prepare", ("--name=cifar10", "--dir=damaged"), "not empty"),
    ("prepare", ("--name=folder", "--source=empty", "--dir=half_store"), "begun with"),
    ("prepare", ("--name=folder", "--source=empty", "--dir=partial_store"), "partial.json"),
    ("prepare", ("--name=folder", "--dir=broken_store"), "manifest.json"),
    ("prepare", ("--name=cifar10", "--workdir=x"), "workdir"),
    ("plan", (BASE, "--devices=0"), "--devices=0"),
    ("plan", (BASE, "--devices=two"), "two"),
    ("plan", (BASE, "--devices=2", "--config.parallel.tower=4"), "--devices=2"),
    ("plan", (BASE, "--devices=6", "--config.parallel.data=4"), "parallel.data=4"),
    ("plan", (BASE, "--devices=8", "--config.parallel.tower=4"), "parallel.tower=4"),
    ("plan", (BASE, "--devices=8", "--config.data.batch_size=12"), "data.batch_size=12"),
    ("plan", (BASE, "--devices=8", "--config.train.accumulate_steps=3"), "accumulate_steps=3"),
    ("plan", (BASE, "--devices=1", "--config.parallel.scheme=hybrid"), "'hybrid'"),
    ("plan", (BASE, "--devices=2", "--link_gbps=0"), "--link_gbps=0"),
    ("plan", (BASE, "--devices=2", "--link_gbps=nan"), "--link_gbps=nan"),
    ("plan", (BASE, "--devices=2", "--device_tflops=-1"), "--device_tflops=-1"),
    ("plan", (BASE, "--link_gbps=1e-300"), "--link_gbps=1e-300 has to be from 1e-06 to 1e+06"),
    ("plan", (BASE, "--device_tflops=1e300"), "--device_tflops=1e+300 has to be from 1e-06"),
    ("plan", (BASE, "--config.train.compute_dtype=bfloat16"), "'bfloat16'"),
    ("plan", (BASE, "--config.data.crop_size=100"), "data.crop_size 100"),
    ("plan", (BASE, "--config.data.crop_size=100", CLASSES), "data.crop_size 100"),
    ("plan", (BASE, "--config.data.name=imagenet2012"), "imagenet2012"),
    ("plan", (BASE, "--table=k20", "--format=json"), "--format=json is not for --table=k20"),
    ("plan", (BASE, "--format=csv"), "--format=csv is not for the plan; give --format=text"),
    ("plan", (BASE, "--table=k40"), "k40"),
    ("plan", (BASE, "--table=k20", "--link_gbps=3"), "--link_gbps is for the plan, not --table"),
    ("plan", (BASE, "--table=layers", "--devices=2"), "--devices is for the plan, not --table"),
    ("report", (), "--workdir is missing"),
    ("report", ("--workdir=gone",), "no checkpoint in gone"),
    ("report", ("--workdir=file",), "no checkpoint in file"),
    ("report", ("--workdir=damaged",), "no good checkpoint in damaged"),
    ("report", ("--workdir=no_config",), "no_config has no config.json"),
    ("report", ("--workdir=broken_config",), "broken_config/config.json cannot be read"),
    ("main", (BASE, "--workdir=saved/checkpoints/7"), "is a checkpoint of the run in saved"),
    ("main", ("--mode=eval", "--workdir=saved/checkpoints/7"), "is a checkpoint of the run in"),
    ("report", ("--workdir=saved/checkpoints/7",), "is a checkpoint of the run in saved"),
    ("report", ("--workdir=saved,gone", "--output=a.html"), "no checkpoint in gone"),
    ("report", ("--workdir=saved,./saved", "--output=a.html"), "names a run twice"),
    ("report", ("--workdir=saved,other",), "--output is missing"),
    ("report", ("--workdir=saved", "--output=a.pdf"), "--output=a.pdf has to end in .html"),
    ("report", ("--workdir=saved", "--output=file/a.html"), "give a file in a folder that exists"),
    ("report", ("--workdir=broken_eval",), "broken_eval/eval.json cannot be read"),
    ("report", ("--workdir=broken_predictions",), "predictions.npz cannot be read"),
    ("report", ("--workdir=broken_metrics",), "broken_metrics/metrics.jsonl has a broken line"),
    ("benchmark", (BASE, "--against=theano"), "theano"),
    ("benchmark", (BASE, "--encoding=png"), "png"),
    ("benchmark", (BASE, "--encoding=raw"), "--encoding=raw is for data.name=synthetic, not"),
    ("benchmark", (BASE, "--repeats=0"), "--repeats"),
    ("benchmark", (BASE, "--seconds=-1"), "--seconds"),
    ("benchmark", (BASE, "--seconds=nan"), "--seconds"),
    ("benchmark", (BASE, "--profile=file/x"), "profile file/x is not writable"),
    ("benchmark", (BASE, "--config.data.batch_size=0"), "data.batch_size=0"),
    ("benchmark", (BASE, "--config.parallel.data=3"), "data.batch_size=32"),
    ("benchmark", (BASE, "--config.train.accumulate_steps=5"), "accumulate_steps=5"),
    ("benchmark", (BASE, "--config.data.name=imagenet2012"), "imagenet2012"),
    ("benchmark", (BASE, "--config.data.val_fraction=0.0"), "optim.schedule='plateau'"),
    ("benchmark", (BASE, SYNTHETIC, "--config.model.num_classes=3"), "model.num_classes=3"),
]  # fmt: skip
# Commands whose arguments are only looked at in a process of their own.
IN_SHELL = [
    ("convert", (), "--from is missing"),
    ("convert", ("--from=file", "--layout=keras", RUN), "--layout=keras is unknown"),
    ("main", (BASE, RUN, "--config.eval.views=2"), "eval.views=2"),
    ("main", ("--config=failing_config.py", RUN), "failing_config.py"),
    ("main", (BASE, "--workdir=damaged"), "damaged/checkpoints/7"),
    ("main", (BASE, RUN, FOLDER, "--config.data.dir=broken_store"), "broken_store/manifest.json"),
    ("prepare", ("--name=folder", "--dir=s"), "--source is missing"),
    ("plan", (BASE, "--devices=0"), "--devices=0"),
    ("benchmark", (BASE, "--against=theano"), "theano"),
    ("report", ("--workdir=gone",), "no checkpoint in gone"),
    ("report", ("--workdir=broken_predictions",), "predictions.npz cannot be read"),
]
MODULES = {
    "main": "main", "prepare": "prepare.__main__", "plan": "plan.__main__",
    "benchmark": "benchmark.__main__", "report": "report.__main__",
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with all that the mistakes point to, as the working directory."""
    monkeypatch.chdir(tmp_path)
    config = get_config()
    config.model.num_classes = 10
    for name in ("saved", "other", "damaged", "no_config", "broken_config"):
        save_run(tmp_path / name, config)
    for name in ("eval.json", "predictions.npz", "metrics.jsonl"):
        run = tmp_path / f"broken_{name.partition('.')[0]}"
        save_run(run, config)
        (run / name).write_text("{\n")
    (workdir.step_folder(tmp_path / "damaged", 7) / "params").write_bytes(bytes(99))
    Path("no_config/config.json").unlink()
    Path("broken_config/config.json").write_text("{")
    Path("file").write_text("mine")
    Path("empty").mkdir()
    Path("pictures/train/cat").mkdir(parents=True)
    Path("unfinished/checkpoints/7.saving").mkdir(parents=True)
    write_json(Path("half_store/partial.json"), {})
    Path("partial_store").mkdir()
    Path("partial_store/partial.json").write_text('{"name": ')
    write_json(Path("broken_store/manifest.json"), {"version": 2})
    Path("broken_config.py").write_text("def get_config(:\n")
    Path("empty_config.py").write_text("get_config = None\n")
    Path("failing_config.py").write_text("def get_config():\n    return 1 // 0\n")
    return tmp_path


def name_of(row):
    """Returns a row's name in the report of the tests."""
    named, arguments, _ = row
    given = [x.replace(str(TOP), "") for x in arguments if x not in (BASE, RUN)]
    return " ".join((named, *given))[:80]


@pytest.mark.parametrize("row", TABLE, ids=name_of)
def test_a_mistake_is_one_line_and_nothing_is_written(folder, row):
    named, arguments, said = row
    before = contents(folder)
    module = importlib.import_module(f"alexnet_jax.{MODULES[named]}")
    words, with_config = [named, *arguments], named not in ("prepare", "report")
    with pytest.raises(UserError) as error:
        module.main(command.parse(words, module.define_flags, with_config=with_config))
    assert said in " ".join(str(error.value).split())
    assert contents(folder) == before


WITHOUT_TENSORFLOW = """
import runpy, sys
try:
    runpy.run_module("alexnet_jax." + sys.argv.pop(1), run_name="__main__", alter_sys=True)
finally:
    assert "tensorflow" not in sys.modules, "TensorFlow was imported first"
"""


@pytest.mark.parametrize("row", IN_SHELL, ids=name_of)
def test_in_a_shell_it_is_exit_code_2_and_one_line_on_stderr(folder, row):
    """TensorFlow, whose import takes seconds, must not have been imported."""
    named, arguments, said = row
    before = contents(folder)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, named, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TOP)},
        timeout=120,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert said in error_line(done)
    assert contents(folder) == before


def test_every_rule_is_of_a_declared_key_and_has_a_row():
    declared = {key for key, _ in rules.flat(get_config())}
    assert set(rules.RULES) <= declared
    assert set(rules.RULES) <= {key for key, *_ in VALUES}
