"""The main job end to end, through the real commands."""

import json
import re
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import SMALL, error_line, lasting, lines, run, start, wait_for_step

import alexnet_jax
from alexnet_jax.data import open_dataset

STEPS = "--config.train.steps=22"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 22 steps that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("finished")
    run("main", *SMALL, STEPS, f"--workdir={workdir}")
    return workdir


def parameters(workdir: Path) -> dict[str, np.ndarray]:
    _, variables, _ = alexnet_jax.load(workdir)
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def assert_same_run(one: Path, other: Path) -> None:
    """Bit for bit the same parameters and metrics."""
    assert lasting(one) == lasting(other)
    first, second = parameters(one), parameters(other)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_writes_what_the_contract_names(finished: Path) -> None:
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
    assert list((finished / "tensorboard").iterdir())
    assert {x.name for x in (finished / "checkpoints").iterdir()} >= {"18", "22"}


def test_epoch_figures_are_those_of_all_its_images(finished: Path) -> None:
    """1,294 images in batches of 160: the ninth has 14, and each image counts the same."""
    epoch = [line for line in lines(finished) if "train/loss" in line][:9]
    sizes = [160] * 8 + [14]
    loss = np.average([line["train/loss"] for line in epoch], weights=sizes)
    error = np.average([line["train/top1_error"] for line in epoch], weights=sizes)
    np.testing.assert_allclose(epoch[-1]["train/epoch_loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(epoch[-1]["train/epoch_top1_error"], error, rtol=1e-5)


def test_a_finished_run_says_so(finished: Path) -> None:
    before = lines(finished)
    assert "finished" in run("main", *SMALL, STEPS, f"--workdir={finished}").stdout
    assert lines(finished) == before


def test_killed_and_resumed_is_the_same_run(finished: Path, tmp_path: Path) -> None:
    """SIGKILL in the second and the third epoch; dropout, crops, flips and colour noise on."""
    arguments = (*SMALL, STEPS, f"--workdir={tmp_path}")
    for step in (12, 20):
        process = start("main", *arguments)
        wait_for_step(process, tmp_path, step)
        process.kill()
        process.communicate()
    run("main", *arguments)
    assert_same_run(finished, tmp_path)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_run_goes_on(
    finished: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    arguments = (*SMALL, STEPS, f"--workdir={tmp_path}")
    process = start("main", *arguments)
    wait_for_step(process, tmp_path, 4)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    saved = max(int(x.name) for x in (tmp_path / "checkpoints").iterdir())
    assert f"saved step {saved}" in out
    assert 4 <= saved < 22
    run("main", *arguments)
    assert_same_run(finished, tmp_path)


def test_evaluation_of_the_restored_net_matches_its_own_validation(
    finished: Path, tmp_path: Path
) -> None:
    run(
        "main", *SMALL, f"--checkpoint={finished}/checkpoints/22", f"--workdir={tmp_path}",
        "--mode=eval", "--config.eval.split=val", "--config.eval.batch_size=7",
    )  # fmt: skip
    evaluation = json.loads((tmp_path / "eval.json").read_text())
    validation = [line for line in lines(finished) if "val/loss" in line][-1]
    assert evaluation["step"] == 22
    assert evaluation["val/top1_error"] == validation["val/top1_error"]
    np.testing.assert_allclose(evaluation["val/loss"], validation["val/loss"], rtol=1e-5)


@pytest.mark.slow
def test_ensemble_averages_probabilities(finished: Path, tmp_path: Path) -> None:
    parts = []
    members = [f"{finished}/checkpoints/18", f"{finished}/checkpoints/22"]
    for i, checkpoint in enumerate([*members, ",".join(members)]):
        run(
            "main", *SMALL, "--mode=eval", f"--workdir={tmp_path}", f"--checkpoint={checkpoint}",
            "--config.eval.views=10", f"--probabilities={tmp_path}/{i}.npz",
            f"--submission={tmp_path}/{i}.txt",
        )  # fmt: skip
        with np.load(tmp_path / f"{i}.npz") as file:
            parts.append((file["probabilities"].astype(np.float64), file["labels"]))
    np.testing.assert_allclose(parts[2][0], (parts[0][0] + parts[1][0]) / 2, atol=1e-7)
    result = json.loads((tmp_path / "eval.json").read_text())
    assert result["test/examples"] == len(parts[2][1]) == 359
    assert result["test/views"] == 10
    likeliest = parts[2][0].argmax(axis=1)
    assert result["test/top1_error"] == pytest.approx(np.mean(likeliest != parts[2][1]))
    submission = np.loadtxt(tmp_path / "2.txt", dtype=int)
    assert submission.shape == (359, 5)
    np.testing.assert_array_equal(submission[:, 0], likeliest + 1)


def test_load_gives_a_model_that_classifies(finished: Path) -> None:
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
def test_starts_from_another_run(finished: Path, tmp_path: Path) -> None:
    """At rate 0 nothing moves: the run ends with the parameters it began with."""
    run(
        "main", *SMALL, "--config.train.steps=1", "--config.optim.learning_rate=0.0",
        f"--config.init_from={finished}", f"--workdir={tmp_path}",
    )  # fmt: skip
    before, after = parameters(finished), parameters(tmp_path)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


def test_stops_when_the_training_error_is_reached(tmp_path: Path) -> None:
    """Every error is at most 1, so the first epoch ends the run."""
    arguments = (*SMALL, "--config.train.stop_at_train_error=0.999", f"--workdir={tmp_path}")
    run("main", *arguments)
    assert lines(tmp_path)[-1]["step"] == 9
    assert "finished" in run("main", *arguments).stdout


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    arguments = (*SMALL, STEPS, f"--workdir={tmp_path}")
    done = run("main", *arguments, "--config.optim.learning_rate=1e6", code=2)
    line = error_line(done)
    assert re.search(r"(loss|grad_norm) is (nan|inf) at step \d+ \(epoch 0, batch \d\)", line)
    assert "learning_rate" in line
    assert not any((tmp_path / "checkpoints").iterdir())


def test_another_nets_checkpoint_is_refused(finished: Path, tmp_path: Path) -> None:
    wider = (*SMALL, "--config.model.width=0.125")
    line = error_line(
        run("main", *wider, f"--config.init_from={finished}", f"--workdir={tmp_path}", code=2)
    )
    assert "conv1/bias is (2, 3) there, (2, 6) here" in line
    line = error_line(run("main", *wider, f"--workdir={finished}", code=2))
    assert "model.width: 0.0625 → 0.125" in line
    line = error_line(run("main", *wider, "--mode=eval", f"--checkpoint={finished}", code=2))
    assert "model.width is 0.0625 there, 0.125 here" in line


def test_describe_prints_the_papers_table() -> None:
    out = run("main", "--config=configs/imagenet.py", "--mode=describe").stdout
    total = next(line for line in out.splitlines() if line.startswith("total"))
    assert total.split() == ["total", "60,965,224", "724,406,816"]
    assert "learning_rate: 0.01" in out


def test_help_says_what_it_does() -> None:
    out = run("main", "--help").stdout
    assert "--config=configs/base.py" in out
    assert "--workdir" in out


@pytest.mark.slow
def test_the_default_run_learns_the_digits(tmp_path: Path) -> None:
    """The claim of the README: at most 3 % of the test images are misread."""
    run("main", "--config=configs/base.py", f"--workdir={tmp_path}")
    run("main", "--config=configs/base.py", f"--workdir={tmp_path}", "--mode=eval")
    assert json.loads((tmp_path / "eval.json").read_text())["test/top1_error"] <= 0.03
