"""Every layer of a net against NumPy in float64, and the shapes of all endpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_net import alexnet_in_numpy, both, map_norm, random_images, random_parameters, small

from alexnet_jax import build_model
from alexnet_jax.errors import UserError
from alexnet_jax.nets.spec import Exchange
from alexnet_jax.nets.zoo import NETS
from configs.base import get_config

CIFAR = ("cuda_convnet_18pct", "cuda_convnet_13pct", "cuda_convnet_11pct", "four_layer")


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


def test_the_classifier_alone_is_a_linear_function_of_the_image():
    """Both towers have the image already: the exchange before fc8 has nothing to gather."""
    config = small("alexnet", 8)
    layers = (x for x in NETS["alexnet"].layers if not isinstance(x, Exchange))
    config.model.without = tuple(x.name for x in layers)[:-1]
    model = build_model(config)
    params, images = random_parameters(model), random_images(8)
    kernel, bias = (np.asarray(params["fc8"][x][0], np.float64) for x in ("kernel", "bias"))
    with jax.enable_x64(True):
        logits, _ = model.apply({"params": params}, images)
    expected = images.reshape(len(images), -1) @ kernel + bias
    np.testing.assert_allclose(logits, expected, rtol=1e-9, atol=1e-9)


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


@pytest.mark.parametrize("name", ["alexnet", "caffenet", "alexnet_batch_norm", *CIFAR])
def test_no_images_have_no_logits(name):
    """As of a filter that leaves nothing: shapes (0, classes) and (0, …), and no error."""
    model = build_model(small(name, NETS[name].crop))
    shape = (0, model.net.crop, model.net.crop, 3)
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    logits, ends = jax.eval_shape(model.apply, variables, images)
    assert logits.shape[0] == 0 and logits.shape[1] == model.net.layers[-1].features
    assert {x.shape[0] for x in ends.values()} == {0}


def test_no_images_are_computed():
    model = build_model(small())
    images = np.zeros((0, 64, 64, 3), np.float32)
    logits, _ = jax.jit(model.apply)({"params": random_parameters(model)}, images)
    assert logits.shape == (0, model.net.layers[-1].features)


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 65, 64, 3), (1, 63, 63, 3), (1, 64, 64, 1), (64, 64, 3)])
def test_images_of_another_size_are_refused(shape):
    model = build_model(small())
    with pytest.raises(UserError, match="64, 64, 3"):
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))


def test_a_net_without_a_number_of_classes_is_refused():
    with pytest.raises(UserError, match=r"model\.num_classes"):
        build_model(get_config())
