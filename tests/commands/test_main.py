"""The main job end to end, through the real commands."""

import json
import os
import re
import shutil

import jax
import numpy as np
import pytest
from commands import SMALL, TOP, error_line, lines, run
from saved_runs import contents

import alexnet_jax
from alexnet_jax.data import open_dataset
from alexnet_jax.evaluate import evaluate_checkpoints
from alexnet_jax.parallel import Layout, make_devices
from alexnet_jax.runs import progress
from configs import base

STEPS = "--config.train.steps=22"


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with a run of 22 steps, which nothing interrupted, and what it printed."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "out.txt").write_text(run("main", *SMALL, STEPS, f"--workdir={folder}/run").stdout)
    return folder


@pytest.fixture(scope="module")
def finished(begun):
    return begun / "run"


def parameters(workdir):
    _, variables, _ = alexnet_jax.load(workdir)
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def test_writes_what_the_contract_names(finished):
    written = lines(finished)
    steps = [line["step"] for line in written if "train/loss" in line]
    assert steps == list(range(1, 23))
    wanted = {"loss", "top1_error", "learning_rate", "images_per_second", "grad_norm"}
    for line in written:
        assert {"step", "epoch", "time"} <= line.keys()
        if "train/loss" in line:
            assert {f"train/{name}" for name in wanted} <= line.keys()
            assert ("train/epoch_loss" in line) == (line["step"] % 9 == 0)
        else:
            wanted_here = {"loss", "top1_error", "top5_error", "examples", "views"}
            assert {f"val/{name}" for name in wanted_here} <= line.keys()
            assert line["val/examples"] == 144
    assert [line["step"] for line in written if "val/loss" in line] == [9, 18, 22]
    assert json.loads((finished / "config.json").read_text())["model"]["num_classes"] == 10
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["devices"] == "1 × cpu" and environment["jax"] == jax.__version__
    assert list((finished / "tensorboard").iterdir())
    assert {x.name for x in (finished / "checkpoints").iterdir()} >= {"18", "22"}


def test_epoch_figures_are_those_of_all_its_images(finished):
    """1,294 images in batches of 160: the ninth has 14, and each image counts the same."""
    epoch = [line for line in lines(finished) if "train/loss" in line][:9]
    sizes = [160] * 8 + [14]
    loss = np.average([line["train/loss"] for line in epoch], weights=sizes)
    error = np.average([line["train/top1_error"] for line in epoch], weights=sizes)
    np.testing.assert_allclose(epoch[-1]["train/epoch_loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(epoch[-1]["train/epoch_top1_error"], error, rtol=1e-5)


def test_a_training_says_what_it_starts_and_ends_with(begun):
    """Devices, net, data, learning rate, best validation, and the next command."""
    out = (begun / "out.txt").read_text().splitlines()
    best = min(
        (x for x in lines(begun / "run") if "val/loss" in x), key=lambda x: x["val/top1_error"]
    )
    for line in (
        f"workdir: {begun}/run",
        f"devices: 1 × cpu, {os.cpu_count()} cores",
        "net: alexnet, 83,954 parameters, 2 towers, 64×64 pixels",
        "data: digits, 10 classes, images: 1,294 train, 359 test, 144 val",
        "learning rate 0.01 from step 1 on",
        f"finished at step 22; lowest validation error {100 * best['val/top1_error']:.2f} % "
        f"at step {best['step']}",
        f"checkpoints: {begun}/run/checkpoints",
        f"to evaluate: python -m alexnet_jax.main --mode=eval --workdir={begun}/run",
    ):
        assert line in out


def test_a_finished_run_says_so_and_changes_nothing(finished):
    before = contents(finished)
    out = run("main", *SMALL, STEPS, f"--workdir={finished}").stdout
    assert "finished at step 22; lowest validation error" in out and "compiling" not in out
    assert contents(finished) == before


def test_evaluation_is_of_the_validation_split_that_the_run_held_out(finished, tmp_path):
    """Also where the config that the command names holds out other images, of another size."""
    config = tmp_path / "other.py"
    config.write_text(
        "from configs import base\n"
        "def get_config():\n"
        "    config = base.get_config()\n"
        "    config.data.val_fraction, config.data.image_size = 0.5, 100\n"
        "    config.eval.split, config.eval.batch_size = 'val', 7\n"
        "    return config\n"
    )
    out = run(
        "main", f"--config={config}", "--mode=eval", f"--checkpoint={finished}/checkpoints/22",
        f"--workdir={tmp_path}", env={"PYTHONPATH": str(TOP)},
    ).stdout  # fmt: skip
    evaluation = json.loads((tmp_path / "eval.json").read_text())
    validation = [line for line in lines(finished) if "val/loss" in line][-1]
    assert evaluation["step"] == 22 and evaluation["val/examples"] == 144
    assert evaluation["val/top1_error"] == validation["val/top1_error"]
    np.testing.assert_allclose(evaluation["val/loss"], validation["val/loss"], rtol=1e-5)
    error = f"{100 * evaluation['val/top1_error']:.2f} %"
    title = "step 22, val split of digits, 1 view"
    assert re.search(rf"^{title}\nimages +144\ntop-1 error +{error}$", out, re.MULTILINE)
    assert f"written to {tmp_path}/eval.json\n" in out


def test_an_evaluation_shows_its_progress(finished, capsys, monkeypatch):
    """Elsewhere than on a terminal in a line from time to time, here at every batch."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    config = base.get_config()
    config.eval.batch_size = 160
    split = open_dataset(config.data).splits["test"]
    evaluate_checkpoints(config, make_devices(Layout()), [finished], split)
    shown = [f"evaluation: {done}/359 images" for done in (160, 320, 359)]
    assert [x for x in capsys.readouterr().out.splitlines() if "images" in x] == shown


@pytest.mark.slow
def test_ensemble_averages_probabilities(finished, tmp_path):
    parts = []
    members = [f"{finished}/checkpoints/18", f"{finished}/checkpoints/22"]
    for i, checkpoint in enumerate([*members, ",".join(members)]):
        out = run(
            "main", *SMALL, "--mode=eval", f"--workdir={tmp_path}", f"--checkpoint={checkpoint}",
            "--config.eval.views=10", f"--probabilities={tmp_path}/{i}.npz",
            f"--submission={tmp_path}/new/{i}.txt",
        ).stdout  # fmt: skip
        with np.load(tmp_path / f"{i}.npz") as file:
            parts.append((file["probabilities"].astype(np.float64), file["labels"]))
    np.testing.assert_allclose(parts[2][0], (parts[0][0] + parts[1][0]) / 2, atol=1e-7)
    assert "mean of 2 nets, test split of digits, 10 views" in out
    replaced = "(in place of: step 22, test split of digits, 10 views)"
    assert f"written to {tmp_path}/eval.json {replaced}" in out
    result = json.loads((tmp_path / "eval.json").read_text())
    assert result["test/examples"] == len(parts[2][1]) == 359
    assert result["test/views"] == 10
    likeliest = parts[2][0].argmax(axis=1)
    assert result["test/top1_error"] == pytest.approx(np.mean(likeliest != parts[2][1]))
    submission = np.loadtxt(tmp_path / "new" / "2.txt", dtype=int)
    assert submission.shape == (359, 5)
    np.testing.assert_array_equal(submission[:, 0], likeliest + 1)


def test_load_gives_a_model_that_classifies(finished):
    """By hand: centre crop of the pixels less the mean that `load` hands out."""
    model, variables, config = alexnet_jax.load(finished)
    split = open_dataset(config.data).splits["val"]
    images = np.asarray(split.images[split.rows], np.float32)[:, 3:67, 3:67]
    logits, endpoints = model.apply(variables, images - variables["input"]["mean"])
    validation = [line for line in lines(finished) if "val/loss" in line][-1]
    wrong = np.asarray(logits).argmax(1) != np.asarray(split.labels)
    assert wrong.mean() == pytest.approx(validation["val/top1_error"])
    assert endpoints["fc7"].shape == (144, 256)


@pytest.mark.slow
def test_starts_from_another_run_and_is_resumed_without_it(finished, tmp_path):
    """At rate 0 nothing moves: the run ends with the parameters it began with."""
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(finished, first)
    arguments = (
        "main", *SMALL, "--config.optim.learning_rate=0.0", f"--config.init_from={first}",
        f"--workdir={second}",
    )  # fmt: skip
    out = run(*arguments, "--config.train.steps=1").stdout
    assert f"starting from the parameters of {first}, step 22" in out
    shutil.rmtree(first)
    assert "resumed from step 1 of 2" in run(*arguments, "--config.train.steps=2").stdout
    before, after = parameters(finished), parameters(second)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


@pytest.mark.slow
def test_another_number_of_classes_draws_the_classifier_anew(finished, tmp_path):
    out = run(
        "main", *SMALL, "--config.data.name=synthetic", "--config.data.synthetic_classes=5",
        "--config.data.synthetic_images=320", "--config.optim.learning_rate=0.0",
        "--config.train.steps=1", f"--config.init_from={finished}", f"--workdir={tmp_path}",
    ).stdout  # fmt: skip
    assert "trained on, 'digits': it has 5 classes, not 10" in out
    assert "fc8 is drawn anew, for 5 classes" in out
    before, after = parameters(finished), parameters(tmp_path)
    assert before.keys() == after.keys()
    for name in (x for x in before if "fc8" not in x and "params" in x):
        np.testing.assert_array_equal(before[name], after[name])
    kernel = after["['params']['fc8']['kernel']"]
    assert kernel.shape[-1] == 5 and kernel.std() > 0


@pytest.mark.slow
def test_stops_at_a_training_error_and_trains_on_without_it(tmp_path):
    """Every error is at most 1, so the first epoch ends the run."""
    arguments = (*SMALL, f"--workdir={tmp_path}")
    stopping = (*arguments, "--config.train.stop_at_train_error=0.999")
    run("main", *stopping)
    assert lines(tmp_path)[-1]["step"] == 9
    assert "finished at step 9" in run("main", *stopping).stdout
    out = run("main", *arguments, "--config.train.steps=11").stdout
    assert "resumed from step 9 of 11" in out and "finished at step 11" in out
    assert [x["step"] for x in lines(tmp_path) if "train/loss" in x] == list(range(1, 12))


def test_other_random_numbers_are_refused_on_resume(finished):
    before = contents(finished)
    more = (*SMALL, "--config.train.steps=30", f"--workdir={finished}")
    env = {"JAX_DEFAULT_PRNG_IMPL": "rbg"}
    line = error_line(run("main", *more, code=2, env=env))
    assert "began with the random generator threefry2x32, now it is rbg" in line
    assert contents(finished) == before


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    arguments = (*SMALL, STEPS, f"--workdir={tmp_path}")
    done = run("main", *arguments, "--config.optim.learning_rate=1e6", code=2)
    line = error_line(done)
    assert re.search(r"(loss|grad_norm) is (nan|inf) at step \d+ \(epoch 0, batch \d\)", line)
    assert "learning_rate" in line
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_another_nets_checkpoint_is_refused_and_leaves_nothing(finished, tmp_path):
    """So that the corrected command is the first one of its workdir."""
    wider, workdir = (*SMALL, "--config.model.width=0.125"), tmp_path / "run"
    started = (*wider, f"--config.init_from={finished}", f"--workdir={workdir}")
    line = error_line(run("main", *started, code=2))
    assert "conv1/kernel is (2, 11, 11, 3, 3), not (2, 11, 11, 3, 6)" in line
    assert not workdir.exists()
    line = error_line(run("main", *wider, f"--workdir={finished}", code=2))
    assert "model.width: 0.0625 → 0.125" in line
    line = error_line(run("main", *wider, "--mode=eval", f"--checkpoint={finished}", code=2))
    assert "was trained with model.width=0.0625, not 0.125" in line


def test_describe_prints_the_papers_table():
    out = run("main", "--config=configs/imagenet.py", "--mode=describe").stdout
    total = next(line for line in out.splitlines() if line.startswith("total"))
    assert total.split() == ["total", "60,965,224", "724,406,816"]
    assert "optim.learning_rate = 0.01" in out.splitlines()
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.slow
def test_the_default_run_learns_the_digits(tmp_path):
    """The claim of the README: at most 3 % of the test images are misread."""
    run("main", "--config=configs/base.py", f"--workdir={tmp_path}")
    run("main", "--config=configs/base.py", f"--workdir={tmp_path}", "--mode=eval")
    assert json.loads((tmp_path / "eval.json").read_text())["test/top1_error"] <= 0.03
