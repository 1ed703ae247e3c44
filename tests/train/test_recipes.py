"""The modern recipes in the training step: smoothed labels, LARS, the average, on any devices."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from devices import advanced, assert_same, by_name, prepared, small

import alexnet_jax
from alexnet_jax.data import open_dataset
from alexnet_jax.runs.checkpoint import Checkpoints
from alexnet_jax.runs.signals import Stop
from alexnet_jax.train.loop import train
from alexnet_jax.train.loss import cross_entropy
from alexnet_jax.train.session import open_session
from configs import base

MODERN = {
    "optim.name": "lars",
    "optim.learning_rate": 0.5,
    "optim.trust_coefficient": 0.02,
    "optim.schedule": "linear",
    "optim.warmup_epochs": 0.1,
    "train.label_smoothing": 0.1,
    "train.ema_decay": 0.9,
}


# --- smoothed labels ---------------------------------------------------------------------------


def smoothed(logits, labels, smoothing):
    """Cross-entropy with targets (1 − s) · one-hot + s ÷ classes, in float64."""
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = np.full_like(logits, smoothing / logits.shape[1])
    targets[np.arange(len(labels)), labels] += 1 - smoothing
    return -(targets * log_p).sum(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_with_smoothed_labels_is_numpys(smoothing):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (8, 5)), rng.integers(0, 5, 8)
    found = cross_entropy(jnp.float32(logits), labels, smoothing)
    np.testing.assert_allclose(found, smoothed(logits, labels, smoothing), rtol=1e-5)


# --- all at once, on several devices -----------------------------------------------------------


def modern(**layout):
    config = small(**layout)
    config.update_from_flattened_dict(MODERN)
    return config


def trained(config, steps=5):
    """Returns the parameters and their average by name after some steps, and every step's loss."""
    state, losses = advanced(*prepared(config), steps)
    return by_name({"params": state.params, "average": state.average}), losses


@pytest.fixture(scope="module")
def alone():
    return trained(modern())


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout",
    [
        {"tower": 2},
        pytest.param({"data": 4}, marks=pytest.mark.soak),
        {"data": 2, "tower": 2, "scheme": "hybrid"},
    ],
    ids=str,
)
def test_any_layout_trains_the_same_net(layout, alone):
    """LARS needs the norms of kernels that lie on several devices."""
    assert_same(trained(modern(**layout)), alone)


# --- the average, evaluated and saved -----------------------------------------------------------


def quick(**changes):
    """Four steps, each saved, of a net that compiles fast."""
    config = base.get_config()
    config.update_from_flattened_dict({
        **MODERN, "model.name": "cuda_convnet_18pct", "model.width": 0.25,
        "model.num_classes": 10, "data.image_size": 36, "data.crop_size": 32,
        "train.steps": 4, "train.log_every_steps": 1, "checkpoint.every_steps": 1,
        "checkpoint.keep": 4, **changes,
    })  # fmt: skip
    return config


def run(config, workdir):
    workdir.mkdir(exist_ok=True)
    train(config, open_dataset(config.data), workdir, Stop())
    return workdir


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    return run(quick(), tmp_path_factory.mktemp("averaged") / "run")


NORMALISED = {
    "model.name": "alexnet_batch_norm", "model.width": 0.0625,
    "data.image_size": 72, "data.crop_size": 64,
}  # fmt: skip


def loaded(workdir, step):
    return jax.device_get(alexnet_jax.load(workdir / "checkpoints" / str(step))[1]["params"])


@pytest.mark.slow
def test_a_checkpoint_gives_the_average_of_the_parameters_after_each_step(averaged, tmp_path):
    """The same training without an average has them at each of its checkpoints."""
    plain = run(quick(**{"train.ema_decay": 0.0}), tmp_path / "run")
    steps = [loaded(plain, step) for step in (1, 2, 3, 4)]
    weights = 0.9 ** np.arange(3, -1, -1.0)

    def check(found, *each):
        expected = np.average([np.float64(x) for x in each], axis=0, weights=weights)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)

    jax.tree.map(check, loaded(averaged, 4), *steps)
    assert np.abs(loaded(averaged, 4)["fc10"]["bias"] - steps[-1]["fc10"]["bias"]).max() > 1e-4


@pytest.mark.slow
def test_a_validation_is_of_the_average(averaged):
    """By hand from the loaded checkpoint: the centres of the held-out digits, less the mean."""
    model, variables, config = alexnet_jax.load(averaged)
    split = open_dataset(config.data).splits["val"]
    images = np.asarray(split.images[split.rows], np.float32)[:, 2:34, 2:34]
    logits, _ = model.apply(variables, images - variables["input"]["mean"])
    losses = smoothed(np.float64(logits), np.asarray(split.labels), 0.0)
    lines = map(json.loads, (averaged / "metrics.jsonl").read_text().splitlines())
    (validation,) = (line["val/loss"] for line in lines if "val/loss" in line)
    np.testing.assert_allclose(validation, losses.mean(), rtol=1e-5)


def assert_resumes(config, finished, again):
    """Removes the last two of four steps from a copy of the run and trains them again."""
    shutil.copytree(finished, again)
    for step in (3, 4):
        shutil.rmtree(again / "checkpoints" / str(step))
    run(config, again)
    ours, theirs = (state(config, folder) for folder in (again, finished))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(averaged, tmp_path):
    assert_resumes(quick(), averaged, tmp_path / "run")


@pytest.mark.slow
def test_so_is_a_resumed_run_with_batch_normalisation(tmp_path):
    config = quick(**NORMALISED)
    assert_resumes(config, run(config, tmp_path / "first"), tmp_path / "again")


def state(config, workdir):
    """The training state at step 4, as a checkpoint holds it."""
    session = open_session(config, open_dataset(config.data))
    with Checkpoints(workdir, 4) as checkpoints:
        restored = checkpoints.restore(session.initial_state.eval_shape())
    assert restored.step == 4
    return jax.device_get(restored.state)
