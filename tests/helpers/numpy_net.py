"""Small AlexNets: their configs, random parameters and images, and every layer in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import reference
from reference import MAPS, PLACES, conv, pool, relu

from configs.base import get_config


def small(name="alexnet", crop=64, width=1 / 8, **changes):
    config = get_config()
    config.model.name, config.model.width, config.model.num_classes = name, width, 10
    config.data.crop_size = crop
    for key, value in changes.items():
        setattr(config.model, key, value)
    return config


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
