"""A training step against NumPy: padding, loss, gradient and randomness."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_net import alexnet_in_numpy, both, random_parameters, small
from reference import relu

from alexnet_jax import build_model
from alexnet_jax.data import embedded
from alexnet_jax.preprocess import InputStats
from alexnet_jax.train.step import make_initial_state, make_train_step

STATS = InputStats(
    jnp.full((64, 64, 3), 40.0), jnp.ones(3), jnp.asarray(np.diag([30.0, 10.0, 5.0]), jnp.float32)
)


def digits_batch(number=4, padding=0):
    split = embedded.digits(72).splits["train"]
    total = number + padding
    return {
        "image": np.ascontiguousarray(split.images[:total]),
        "label": np.asarray(split.labels[:total], np.int32),
        "mask": (np.arange(total) < number).astype(np.float32),
    }


CONFIGS = {
    "random": small(),
    "another seed": small(),
    "still": small(dropout=0.0),  # nothing random in a step
}
CONFIGS["another seed"].seed = 1
CONFIGS["still"].data.augment.crop = False
for config in (CONFIGS["random"], CONFIGS["another seed"]):
    config.data.augment.flip, config.data.augment.colour = True, "code"


@functools.cache
def training(kind):
    """Returns the step, the jitted step, and a state at step 0 in which every layer matters."""
    config = CONFIGS[kind]
    model = build_model(config)
    state = jax.eval_shape(make_initial_state(config, model))
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state)
    params = jax.tree.map(jnp.float32, random_parameters(model))
    state = state.replace(params=params, plateau=state.plateau._replace(scale=jnp.float32(1)))
    step = make_train_step(config, model, 10, 100)
    return step, jax.jit(step), state


def one_step(kind, batch, number=0):
    _, step, state = training(kind)
    return step(state.replace(step=jnp.int32(number)), batch, STATS)


def close(first, second):
    """Compares every array of two states, to 1/10,000 of its largest value."""
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())


@pytest.mark.slow
def test_a_jitted_training_step_is_the_unjitted_one():
    step, _, state = training("random")
    plain, plain_scalars = step(state, digits_batch(4, padding=3), STATS)
    jitted, scalars = one_step("random", digits_batch(4, padding=3))
    assert int(jitted.step) == int(plain.step) == 1
    assert not np.allclose(jitted.params["conv1"]["kernel"], state.params["conv1"]["kernel"])
    close(jitted, plain)
    for name, value in scalars.items():
        assert float(value) == pytest.approx(float(plain_scalars[name]), rel=1e-5), name


@pytest.mark.slow
def test_padding_changes_neither_loss_nor_gradient():
    unpadded, scalars = one_step("still", digits_batch(4))
    padded, padded_scalars = one_step("still", digits_batch(4, padding=3))
    assert float(padded_scalars["examples"]) == 4
    for name, value in scalars.items():
        assert float(padded_scalars[name]) == pytest.approx(float(value), rel=1e-5), name
    close(unpadded, padded)


@pytest.mark.slow
def test_what_the_padding_shows_does_not_matter_even_with_dropout():
    batch = digits_batch(4, padding=3)
    other = dict(batch, image=batch["image"].copy(), label=batch["label"].copy())
    other["image"][4:] = 255 - other["image"][4:]
    other["label"][4:] = (other["label"][4:] + 1) % 10
    first, scalars = one_step("random", batch)
    second, other_scalars = one_step("random", other)
    assert float(scalars["loss"]) == float(other_scalars["loss"])
    assert float(scalars["top1_error"]) == float(other_scalars["top1_error"])
    close(first, second)


def test_loss_and_error_of_a_step_are_those_of_numpys_net():
    batch = digits_batch(4)
    params = jax.tree.map(np.float64, training("still")[2].params)
    images = batch["image"][:, 4:68, 4:68].astype(np.float64) - 40
    logits = in_training(alexnet_in_numpy(params, images, "alexnet"), params)
    exps = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exps / exps.sum(1, keepdims=True)
    loss = -np.log(probabilities[np.arange(4), batch["label"]]).mean()
    error = (logits.argmax(1) != batch["label"]).mean()
    _, scalars = one_step("still", batch)
    assert float(scalars["loss"]) == pytest.approx(loss, rel=1e-4)
    assert float(scalars["top1_error"]) == pytest.approx(error)
    assert float(scalars["learning_rate"]) == pytest.approx(0.01)


def in_training(ends, params):
    """Computes the logits from pool5 without the test's factor of one half."""
    x = ends["pool5"].reshape(len(ends["pool5"]), -1)
    for layer in ("fc6", "fc7"):
        kernels, biases = (np.asarray(params[layer][part]) for part in ("kernel", "bias"))
        x = both([relu(x @ kernels[i] + biases[i]) for i in (0, 1)])
    return x @ np.asarray(params["fc8"]["kernel"][0]) + np.asarray(params["fc8"]["bias"][0])


def test_the_gradient_is_the_mean_over_the_batch():
    def velocity(mask):  # after the first step: −rate · (gradient + decay · weights)
        batch = dict(digits_batch(4), mask=np.array(mask, np.float32))
        return one_step("still", batch)[0].opt_state.velocity

    every, first, second = velocity([1, 1, 1, 1]), velocity([1, 0, 0, 0]), velocity([0, 1, 1, 1])
    mean = jax.tree.map(lambda a, b: (a + 3 * b) / 4, first, second)
    assert not np.allclose(first["conv4"]["kernel"], second["conv4"]["kernel"], rtol=0.1)
    close(every, mean)


@pytest.mark.slow
def test_randomness_of_a_step_is_a_function_of_the_seed_and_the_step():
    batch = digits_batch(4, padding=3)

    def loss(kind, number):
        return float(one_step(kind, batch, number)[1]["loss"])

    losses = [loss("random", number) for number in range(3)] + [loss("another seed", 0)]
    assert len(set(losses)) == 4
    assert loss("random", 1) == losses[1]
