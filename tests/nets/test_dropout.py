"""Dropout's masks: a function of the key and the example, whatever the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_net import random_images, random_parameters, small

from alexnet_jax import build_model


@pytest.fixture(scope="module")
def masks():
    """Returns a function from a key and examples to the masks of drop6 and drop7.

    Every unit of fc6 and fc7 is 1, so that the outputs of the dropout layers are their masks.
    """
    model = build_model(small(width=0.25))
    params = random_parameters(model)
    for layer in ("fc6", "fc7"):
        params[layer] = {name: 0 * x + (name == "bias") for name, x in params[layer].items()}
    images = random_images(64, 16).astype(np.float32)

    @jax.jit
    def masks(key, examples):
        rngs = {"dropout": key}
        _, ends = model.apply({"params": params}, images, True, examples, rngs=rngs)
        return ends["drop6"], ends["drop7"]

    return lambda seed, examples: np.asarray(masks(jax.random.key(seed), jnp.asarray(examples)))


@pytest.fixture(scope="module")
def dropped(masks):
    """Returns masks of drop6 and drop7 for examples 0 to 15 and two keys: [3, 2, 16, 1024]."""
    return np.asarray([masks(seed, range(16)) for seed in (0, 0, 1)])


def agreement(a, b):
    """Returns how far from one half the agreement of two masks is, in standard deviations."""
    return abs((a == b).mean() - 0.5) * 2 * np.sqrt(a.size)


def test_training_keeps_units_as_they_are_or_drops_them(dropped):
    assert set(np.unique(dropped)) == {0, 1}  # the paper's: not divided by 1 − rate


def test_half_of_the_units_are_kept(dropped):
    assert abs(dropped[0].mean() - 0.5) < 5 * 0.5 / np.sqrt(dropped[0].size)


def test_masks_are_a_function_of_the_key(dropped):
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert agreement(dropped[0], dropped[2]) < 5


def test_masks_of_two_layers_differ(dropped):
    drop6, drop7 = dropped[0]
    assert agreement(drop6, drop7) < 5


def test_masks_of_two_examples_differ(dropped):
    masks = dropped[0, 0]
    assert all(agreement(masks[0], other) < 5 for other in masks[1:])


def test_a_mask_belongs_to_its_example_wherever_it_stands_in_the_batch(masks, dropped):
    examples = [3, 0, 900, 3, *range(4, 16)]
    found = masks(0, examples)
    for i, example in enumerate(examples):
        if example < 16:
            np.testing.assert_array_equal(found[:, i], dropped[0, :, example])
    assert all(agreement(found[0, 2], other) < 5 for other in dropped[0, 0])


def test_without_numbers_the_examples_count_from_0():
    model = build_model(small(without=("conv2", "conv3", "conv4", "conv5", "fc7")))
    params, images = random_parameters(model), random_images(64, 3).astype(np.float32)

    @jax.jit
    def logits(examples):
        rngs = {"dropout": jax.random.key(0)}
        return model.apply({"params": params}, images, True, examples, rngs=rngs)[0]

    np.testing.assert_array_equal(logits(None), logits(jnp.arange(3)))
    assert (logits(None) != logits(jnp.arange(1, 4))).any(1).all()


def test_masks_of_the_two_towers_differ(dropped):
    assert agreement(dropped[0, 0, :, :512], dropped[0, 0, :, 512:]) < 5
