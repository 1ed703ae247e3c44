"""Training that starts from another run's parameters: frozen layers, the mean, the classifier."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from devices import prepared, small

import alexnet_jax
from alexnet_jax.convert import write_workdir
from alexnet_jax.data import open_dataset
from alexnet_jax.runs.record import facts_of
from alexnet_jax.runs.signals import Stop
from alexnet_jax.train.loop import train
from alexnet_jax.train.session import abstract_session, open_session
from alexnet_jax.train.start import params_to_start_from
from configs import base

FROZEN = ("conv1", "conv2", "fc6")


def freezing(**layout):
    config = small(**layout)
    config.optim.layer_factors = tuple((name, 0) for name in FROZEN)
    return config


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"data": 2, "tower": 2}, marks=pytest.mark.slow),
        pytest.param({"data": 2, "scheme": "hybrid"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_frozen_layers_keep_their_parameters_and_the_others_learn(layout):
    """A frozen layer takes no weight decay either."""
    step, state, batches = prepared(freezing(**layout))
    before = jax.device_get(state.params)
    for _ in range(2):
        state, _ = step(state, next(batches))
    after, velocity = jax.device_get((state.params, state.opt_state.velocity))
    for name, leaves in before.items():
        for key in leaves:
            moved = (after[name][key] != leaves[key]).any()
            assert moved == (name not in FROZEN), (name, key)
            assert velocity[name][key].any() == (name not in FROZEN), (name, key)


def test_a_frozen_layers_gradient_is_not_computed():
    """For each tower that saves four convolutions.

    They are those for the kernels of conv1 and conv2, and for the inputs of conv2 and conv3.
    """

    def convolutions(config):
        return abstract_session(config).lower().as_text().count("stablehlo.convolution")

    assert convolutions(small()) - convolutions(freezing()) == 2 * 4


def trained(config, workdir):
    """Trains in a workdir and returns what `load` gives."""
    workdir.mkdir(exist_ok=True)
    train(config, open_dataset(config.data), workdir, Stop())
    return alexnet_jax.load(workdir)


def one_step(**changes):
    """One step of a net that compiles fast, on the digits."""
    config = base.get_config()
    changes = {
        "model.name": "cuda_convnet_18pct", "model.width": 0.25, "model.num_classes": 10,
        "data.image_size": 36, "data.crop_size": 32, "train.steps": 1, **changes,
    }  # fmt: skip
    config.update_from_flattened_dict(changes)
    return config


def on_other_data(first, **changes):
    """A run on five classes of noise that starts from the digits' net and keeps its parameters."""
    other = {
        "init_from": str(first), "optim.learning_rate": 0.0, "model.num_classes": 5,
        "data.name": "synthetic", "data.synthetic_classes": 5, "data.synthetic_images": 64,
    }  # fmt: skip
    return one_step(**other, **changes)


@pytest.mark.slow
def test_a_classifier_stays_for_its_own_classes_only(tmp_path):
    """As many other classes are other classes, too, and so are the same in another order."""
    config = one_step(init_from=str(tmp_path))
    dataset = open_dataset(config.data)
    session, facts = open_session(config, dataset), facts_of(dataset)
    write_workdir(tmp_path, config, {}, np.zeros(3, np.float32), facts.class_names)
    shapes = session.initial_state.eval_shape().params
    drawn = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    for names, is_kept in (("0123456789", True), ("abcdefghij", False), ("1023456789", False)):
        now = replace(facts, class_names=tuple(names))
        params, _ = params_to_start_from(session, drawn, now)
        assert params["conv2"]["kernel"].any()
        assert params["fc10"]["kernel"].any() == is_kept


@pytest.mark.slow
def test_the_mean_of_the_checkpoint_stays_with_its_parameters(tmp_path, capsys):
    """Also when the run is resumed: the other data have another mean image."""
    _, first, _ = trained(one_step(), tmp_path / "first")
    for steps in (1, 2):
        config = on_other_data(tmp_path / "first", **{"train.steps": steps})
        _, second, _ = trained(config, tmp_path / "second")
        np.testing.assert_array_equal(second["input"]["mean"], first["input"]["mean"])
        np.testing.assert_array_equal(
            second["params"]["conv1"]["kernel"], first["params"]["conv1"]["kernel"]
        )
        assert second["params"]["fc10"]["kernel"].shape[-1] == 5
    own = open_dataset(config.data).mean_image[2:34, 2:34]
    assert np.abs(own - first["input"]["mean"]).max() > 10
    out = capsys.readouterr().out
    assert "fc10 is drawn anew, for 5 classes" in out and "and its input mean" in out


@pytest.mark.slow
def test_a_mean_image_of_another_crop_becomes_its_mean_colour(tmp_path):
    """33 pixels give the same number of windows as 32, and so the same parameters."""
    _, first, _ = trained(one_step(), tmp_path / "first")
    larger = on_other_data(tmp_path / "first", **{"data.crop_size": 33})
    _, second, _ = trained(larger, tmp_path / "second")
    np.testing.assert_allclose(
        second["input"]["mean"], first["input"]["mean"].mean((0, 1)), rtol=1e-6
    )
