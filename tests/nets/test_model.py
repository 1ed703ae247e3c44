"""Every layer of a net against NumPy in float64, endpoints, random numbers and a training step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from reference import MAPS, PLACES, conv, pool, relu

from alexnet_jax import build_model
from alexnet_jax.data import embedded
from alexnet_jax.errors import UserError
from alexnet_jax.nets.zoo import NETS
from alexnet_jax.preprocess import InputStats
from alexnet_jax.step import make_initial_state, make_train_step
from configs.base import get_config

CIFAR = ("cuda_convnet_18pct", "cuda_convnet_13pct", "cuda_convnet_11pct", "four_layer")


def small(name="alexnet", crop=64, width=1 / 8, **changes):
    config = get_config()
    config.model.name, config.model.width, config.model.num_classes = name, width, 10
    config.data.crop_size = crop
    for key, value in changes.items():
        setattr(config.model, key, value)
    return config


# --- the same net in NumPy -------------------------------------------------------------------


def map_norm(x, k, alpha):
    return reference.response_norm(x, MAPS, 5, k, alpha, 0.75)


def place_norm(x, k, alpha):
    return reference.response_norm(x, PLACES, 5, k, alpha, 0.75)


def both(towers):
    return np.concatenate(towers, -1)


def alexnet_in_numpy(params, images, name):
    """Computes every layer's output by its name, the towers side by side; drops no units."""
    ends = {}

    def weights(layer, tower):
        return params[layer]["kernel"][tower], params[layer]["bias"][tower]

    def keep(layer, towers):
        ends[layer] = both(towers)
        return towers

    def each(layer, function, towers):
        return keep(layer, [function(x) for x in towers])

    def over_both(layer, function, towers):
        return keep(layer, np.split(function(both(towers)), 2, -1))

    over = -(images.shape[1] - 11) % 4 if not name.startswith("caffe") else 0
    t = [conv(images, *weights("conv1", i), stride=4, over=over) for i in (0, 1)]
    if name == "alexnet_original":
        t = keep("conv1", t)
        t = each("norm1", lambda x: map_norm(x, 2, 1e-4 / 5), t)
        t = each("pool1", pool, t)
        t = each("relu1", relu, t)
    else:
        t = each("conv1", relu, t)
        if name == "alexnet":
            t = each("norm1", lambda x: map_norm(x, 2, 1e-4), t)
            t = each("pool1", pool, t)
        elif name == "caffe_alexnet":
            t = over_both("norm1", lambda x: map_norm(x, 1, 1e-4 / 5), t)
            t = each("pool1", pool, t)
        else:
            t = each("pool1", pool, t)
            t = over_both("norm1", lambda x: map_norm(x, 1, 1e-4 / 5), t)
    t = keep("conv2", [relu(conv(t[i], *weights("conv2", i), padding=2)) for i in (0, 1)])
    if name == "alexnet":
        t = each("norm2", lambda x: map_norm(x, 2, 1e-4), t)
    elif name == "alexnet_original":
        t = each("norm2", lambda x: map_norm(x, 2, 1e-4 / 5), t)
        t = each("mapnorm2", lambda x: place_norm(x, 1, 0.001 / 25), t)
    elif name == "caffe_alexnet":
        t = over_both("norm2", lambda x: map_norm(x, 1, 1e-4 / 5), t)
    t = each("pool2", pool, t)
    if name == "caffenet":
        t = over_both("norm2", lambda x: map_norm(x, 1, 1e-4 / 5), t)
    t = keep("conv3", [relu(conv(both(t), *weights("conv3", i), padding=1)) for i in (0, 1)])
    t = keep("conv4", [relu(conv(t[i], *weights("conv4", i), padding=1)) for i in (0, 1)])
    t = [conv(t[i], *weights("conv5", i), padding=1) for i in (0, 1)]
    if name == "alexnet_original":
        t = keep("conv5", t)
        t = each("pool5", pool, t)
        t = each("relu5", relu, t)
    else:
        t = each("conv5", relu, t)
        t = each("pool5", pool, t)
    test_scale = 1.0 if name.startswith("caffe") else 0.5
    for number in (6, 7):
        x = both(t).reshape(len(images), -1)
        fc = [weights(f"fc{number}", i) for i in (0, 1)]
        t = keep(f"fc{number}", [relu(x @ kernel + bias) for kernel, bias in fc])
        t = each(f"drop{number}", lambda x: x * test_scale, t)
    kernel, bias = weights("fc8", 0)
    ends["fc8"] = both(t) @ kernel + bias
    return ends


def random_parameters(model, seed=0):
    """Draws kernels of variance 2 ÷ fan-in and biases about 0.1, so that every layer matters."""
    images = jax.ShapeDtypeStruct((1, model.net.crop, model.net.crop, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    rng = np.random.default_rng(seed)

    def draw(shape):
        if len(shape) == 2:  # a bias: tower, maps
            return rng.normal(0.1, 0.1, shape)
        return rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:-1]))

    return jax.tree.map(lambda x: draw(x.shape), shapes)


def random_images(side, number=2):
    return np.random.default_rng(1).normal(0, 60, (number, side, side, 3))


SIDES = [("alexnet", 64), ("alexnet_original", 66), ("caffe_alexnet", 67), ("caffenet", 67)]


@pytest.mark.parametrize(("name", "crop"), SIDES)
def test_every_layer_of_the_net_is_what_numpy_says(name, crop):
    model = build_model(small(name, crop))
    params, images = random_parameters(model), random_images(crop)
    expected = alexnet_in_numpy(params, images, name)
    with jax.enable_x64(True):
        logits, ends = jax.jit(model.apply)({"params": params}, images)
    assert sorted(ends) == sorted(expected)
    for layer, value in expected.items():
        assert ends[layer].dtype == np.float64
        assert np.abs(value).max() > 0
        np.testing.assert_allclose(ends[layer], value, rtol=1e-9, atol=1e-9, err_msg=layer)
    np.testing.assert_allclose(logits, expected["fc8"], rtol=1e-9, atol=1e-9)


def test_normalising_inside_a_tower_differs_from_normalising_over_the_border():
    """Guards the test above: with these inputs the two conventions differ."""
    x = np.abs(random_images(4)[..., :1]) * np.ones(12)
    inside = both([map_norm(half, 2, 1e-4) for half in np.split(x, 2, -1)])
    across = map_norm(x, 2, 1e-4)
    assert np.abs(inside - across)[..., 4:8].max() > 1  # two maps on either side of the border
    np.testing.assert_array_equal(inside[..., :4], across[..., :4])


@pytest.mark.parametrize("name", ["alexnet", "alexnet_original"])
def test_the_gradient_along_a_direction_is_numpys_difference_quotient(name):
    crop = dict(SIDES)[name]
    model = build_model(small(name, crop))
    params, direction = random_parameters(model), random_parameters(model, seed=5)
    images, weights = random_images(crop), np.random.default_rng(2).normal(size=(2, 10))

    def moved(step):
        return jax.tree.map(lambda p, d: p + step * d, params, direction)

    def value(step):
        return (alexnet_in_numpy(moved(step), images, name)["fc8"] * weights).sum()

    with jax.enable_x64(True):
        grads = jax.jit(
            jax.grad(lambda p: (model.apply({"params": p}, images)[0] * weights).sum())
        )(params)
    slope = sum(
        (np.asarray(g) * d).sum()
        for g, d in zip(jax.tree.leaves(grads), jax.tree.leaves(direction), strict=True)
    )
    step = 1e-7
    assert slope == pytest.approx((value(step) - value(-step)) / (2 * step), rel=1e-5)


# --- endpoints -------------------------------------------------------------------------------

HEAD = {name: (4096,) for name in ("fc6", "drop6", "fc7", "drop7")} | {"fc8": (1000,)}
CONV1_TO_POOL5 = {
    "conv1": (55, 55, 96), "norm1": (55, 55, 96), "pool1": (27, 27, 96),
    "conv2": (27, 27, 256), "norm2": (27, 27, 256), "pool2": (13, 13, 256),
    "conv3": (13, 13, 384), "conv4": (13, 13, 384), "conv5": (13, 13, 256), "pool5": (6, 6, 256),
}  # fmt: skip
CIFAR_18 = {
    "conv1": (32, 32, 32), "pool1": (16, 16, 32), "relu1": (16, 16, 32),
    "conv2": (16, 16, 32), "pool2": (8, 8, 32),
    "conv3": (8, 8, 64), "pool3": (4, 4, 64), "fc10": (10,),
}  # fmt: skip
ENDPOINTS = {
    "alexnet": CONV1_TO_POOL5 | HEAD,
    "alexnet_original": CONV1_TO_POOL5
    | {"relu1": (27, 27, 96), "mapnorm2": (27, 27, 256), "relu5": (6, 6, 256)}
    | HEAD,
    "alexnet_half": CONV1_TO_POOL5
    | {"conv1": (55, 55, 48), "norm1": (55, 55, 48), "pool1": (27, 27, 48)}
    | {"conv2": (27, 27, 128), "norm2": (27, 27, 128), "pool2": (13, 13, 128)}
    | {"conv3": (13, 13, 192), "conv4": (13, 13, 192)}
    | HEAD,
    "alexnet_conv6": CONV1_TO_POOL5 | {"conv6": (6, 6, 256)} | HEAD,
    "alexnet_batch_norm": CONV1_TO_POOL5
    | {f"relu{i}": CONV1_TO_POOL5[f"conv{i}"] for i in range(1, 6)}
    | {f"norm{i}": CONV1_TO_POOL5[f"conv{i}"] for i in range(1, 6)}
    | HEAD,
    "caffe_alexnet": CONV1_TO_POOL5 | HEAD,
    "caffenet": CONV1_TO_POOL5 | {"norm1": (27, 27, 96), "norm2": (13, 13, 256)} | HEAD,
    "one_weird_trick": {
        "conv1": (55, 55, 64), "pool1": (27, 27, 64), "conv2": (27, 27, 192),
        "pool2": (13, 13, 192), "conv3": (13, 13, 384), "conv4": (13, 13, 256),
        "conv5": (13, 13, 256), "pool5": (6, 6, 256), "drop5": (6, 6, 256),
        "fc6": (4096,), "drop6": (4096,), "fc7": (4096,), "fc8": (1000,),
    },
    "cuda_convnet_18pct": CIFAR_18 | {"norm1": (16, 16, 32), "norm2": (8, 8, 32)},
    "cuda_convnet_13pct": {
        "conv1": (24, 24, 64), "pool1": (12, 12, 64), "conv2": (12, 12, 64), "pool2": (6, 6, 64),
        "local3": (6, 6, 32), "local4": (6, 6, 32), "fc10": (10,),
    },
    "cuda_convnet_11pct": {
        "conv1": (24, 24, 64), "pool1": (12, 12, 64), "norm1": (12, 12, 64),
        "conv2": (12, 12, 64), "norm2": (12, 12, 64), "pool2": (6, 6, 64),
        "local3": (6, 6, 64), "local4": (6, 6, 32), "fc10": (10,),
    },
    "four_layer": CIFAR_18,
}  # fmt: skip


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_layer_is_an_endpoint_of_its_published_shape(name):
    config = small(name, NETS[name].crop, 1.0)
    config.model.num_classes = 10 if name in CIFAR else 1000
    model = build_model(config)
    images = jax.ShapeDtypeStruct((2, model.net.crop, model.net.crop, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    logits, ends = jax.eval_shape(model.apply, variables, images)
    assert {layer: x.shape for layer, x in ends.items()} == {
        layer: (2, *shape) for layer, shape in ENDPOINTS[name].items()
    }
    assert logits.shape == (2, config.model.num_classes)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


# --- initial parameters ----------------------------------------------------------------------

STDS = {  # of alexnet at a quarter of the width on 64 pixels: 0.01 × √(published ÷ own fan-in)
    "conv1": 0.01, "conv2": 0.02, "conv3": 0.02, "conv4": 0.02, "conv5": 0.02,
    "fc6": 0.12, "fc7": 0.02, "fc8": 0.02,
}  # fmt: skip
BIASES = {"conv1": 0, "conv2": 1, "conv3": 0, "conv4": 1, "conv5": 1, "fc6": 1, "fc7": 1, "fc8": 0}


@pytest.fixture(scope="module")
def initial():
    model = build_model(small(width=0.25))
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    return jax.tree.map(np.asarray, params)


@pytest.mark.parametrize("layer", STDS)
def test_initial_weights_are_normal_about_zero_and_biases_constant(initial, layer):
    kernel, bias = initial[layer]["kernel"].astype(np.float64), initial[layer]["bias"]
    std, n = STDS[layer], kernel.size
    assert abs(kernel.mean()) < 5 * std / np.sqrt(n)
    assert abs(kernel.std() - std) < 5 * std / np.sqrt(2 * n)
    beyond = (np.abs(kernel) > 2 * std).mean()  # 4.55 % of a normal distribution
    assert abs(beyond - 0.0455) < 5 * np.sqrt(0.0455 * 0.9545 / n)
    np.testing.assert_array_equal(bias, BIASES[layer])


def test_the_two_towers_begin_with_different_weights(initial):
    for layer in list(STDS)[:-1]:
        first, second = initial[layer]["kernel"]
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5 / np.sqrt(first.size)


def test_initial_weights_are_a_function_of_the_seed():
    config = small("four_layer", 12, 1.0)
    model = build_model(config)

    def kernel(seed):
        config.seed = seed
        return np.asarray(jax.jit(make_initial_state(config, model))().params["conv3"]["kernel"])

    third, fourth = kernel(3), kernel(4)
    np.testing.assert_array_equal(third, kernel(3))
    assert abs(np.corrcoef(third.ravel(), fourth.ravel())[0, 1]) < 0.05


# --- dropout ---------------------------------------------------------------------------------


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


# --- a training step -------------------------------------------------------------------------

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


def test_randomness_of_a_step_is_a_function_of_the_seed_and_the_step():
    batch = digits_batch(4, padding=3)

    def loss(kind, number):
        return float(one_step(kind, batch, number)[1]["loss"])

    losses = [loss("random", number) for number in range(3)] + [loss("another seed", 0)]
    assert len(set(losses)) == 4
    assert loss("random", 1) == losses[1]


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 65, 64, 3), (1, 63, 63, 3), (1, 64, 64, 1), (64, 64, 3)])
def test_images_of_another_size_are_refused(shape):
    model = build_model(small())
    with pytest.raises(UserError, match="64, 64, 3"):
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))


def test_a_net_without_a_number_of_classes_is_refused():
    with pytest.raises(UserError, match=r"model\.num_classes"):
        build_model(get_config())
