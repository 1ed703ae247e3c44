"""Explanations against hand-worked values and NumPy loops in float64."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import convolve1d

from alexnet_jax.explain import attribution
from alexnet_jax.nets.model import AlexNet
from alexnet_jax.nets.spec import LRN, Conv, Dense, Exchange, MapLRN, MaxPool, Net

RNG = np.random.default_rng(0)
TWO_TOWERS = Net(
    (
        Conv("conv1", 4, 3, padding=1),
        LRN("norm1", size=3, alpha=0.5),
        MaxPool("pool1", 2, 2),
        Exchange(),
        Conv("conv2", 6, 3, padding=1),
        Exchange(),
        Dense("fc3", 5, activation=None, divided=False),
    ),
    crop=8,
    towers=2,
)


def random_params(net, seed=0, scale=0.5):
    """Parameters far larger than initial ones, so that units differ."""
    images = np.zeros((1, net.crop, net.crop, 3), np.float32)
    with jax.enable_x64(False):  # the initial values have types of their own
        shapes = jax.eval_shape(AlexNet(net).init, jax.random.key(0), images)["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.float32(rng.normal(0, scale, x.shape)), shapes)


def random_images(net, count=2):
    return RNG.normal(0, 1, (count, net.crop, net.crop, 3)).astype(np.float32)


def jitted(function, net, **how):
    return jax.jit(partial(function, AlexNet(net), **how))


@cache
def apply(net):
    """(params, images, offsets) → logits and endpoints."""
    model = AlexNet(net)
    return jax.jit(lambda params, x, offsets: model.apply({"params": params}, x, offsets=offsets))


def logits_of(net, params, images, offsets=None):
    return np.asarray(apply(net)(params, images, offsets or {})[0])


def endpoint(net, params, images, layer):
    return np.asarray(apply(net)(params, images, {})[1][layer])


def softmax(x):
    exps = np.exp(x - x.max(-1, keepdims=True))
    return exps / exps.sum(-1, keepdims=True)


# --- saliency --------------------------------------------------------------------------------


def test_saliency_of_a_linear_net_is_the_largest_weight_of_each_pixel():
    net = Net((Dense("fc", 4, activation=None, divided=False),), crop=3)
    params = random_params(net)
    found = jitted(attribution.saliency, net)(params, random_images(net), np.array([2, 0]))
    weights = np.asarray(params["fc"]["kernel"][0]).reshape(3, 3, 3, 4)
    expected = np.abs(weights).max(axis=2)
    np.testing.assert_allclose(found, [expected[..., 2], expected[..., 0]], rtol=1e-6)


def test_saliency_is_the_change_of_the_logit_with_a_pixel(float64):
    params = jax.tree.map(np.float64, random_params(TWO_TOWERS))
    image = np.float64(random_images(TWO_TOWERS, 1))
    found = jitted(attribution.saliency, TWO_TOWERS)(params, image, np.array([3]))
    for row, column in ((0, 0), (4, 5), (7, 2)):
        slopes = []
        for channel in range(3):
            step = np.zeros_like(image)
            step[0, row, column, channel] = 1e-6
            high, low = (logits_of(TWO_TOWERS, params, image + x)[0, 3] for x in (step, -step))
            slopes.append((high - low) / 2e-6)
        assert found[0, row, column] == pytest.approx(np.abs(slopes).max(), rel=1e-5)


# --- occlusion -------------------------------------------------------------------------------


def test_occlusion_covers_every_place_in_turn():
    params = random_params(TWO_TOWERS, scale=0.2)
    images, classes = random_images(TWO_TOWERS), np.array([1, 4])
    find = jitted(attribution.occlusion, TWO_TOWERS, size=3, stride=2)
    found = find(params, images, classes)
    assert found.shape == (2, 3, 3)

    def probability(image, label):
        return softmax(np.float64(logits_of(TWO_TOWERS, params, image[None])))[0, label]

    for n, label in enumerate(classes):
        for i, row in enumerate((0, 2, 4)):
            for j, column in enumerate((0, 2, 4)):
                covered = images[n].copy()
                covered[row : row + 3, column : column + 3] = 0
                drop = probability(images[n], label) - probability(covered, label)
                assert found[n, i, j] == pytest.approx(drop, abs=1e-6)
    assert np.ptp(found) > 0.01  # the places do differ


# --- Grad-CAM --------------------------------------------------------------------------------


def test_grad_cam_is_its_formula(float64):
    params = jax.tree.map(np.float64, random_params(TWO_TOWERS))
    images, classes = np.float64(random_images(TWO_TOWERS)), np.array([0, 3])
    found = jitted(attribution.grad_cam, TWO_TOWERS, layer="conv2")(params, images, classes)
    maps = endpoint(TWO_TOWERS, params, images, "conv2")
    # By raising a whole map by a little: the mean slope of its places.
    weights = np.zeros((2, maps.shape[-1]))
    for k in range(maps.shape[-1]):
        step = np.zeros_like(maps)
        step[..., k] = 1e-6
        high, low = (
            logits_of(TWO_TOWERS, params, images, {"conv2": sign * step}) for sign in (1, -1)
        )
        slopes = (high - low)[np.arange(2), classes] / 2e-6
        weights[:, k] = slopes / maps[0, ..., 0].size
    expected = np.maximum(np.einsum("nk,nhwk->nhw", weights, maps), 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)
    assert expected.max() > 0


def test_grad_cam_before_a_linear_classifier_is_the_classifier_s_weights_times_the_maps():
    net = Net((Conv("conv1", 4, 3), Dense("fc2", 3, activation=None, divided=False)), crop=5)
    params, images = random_params(net), random_images(net, 1)
    found = jitted(attribution.grad_cam, net, layer="conv1")(params, images, np.array([1]))
    maps = np.float64(endpoint(net, params, images, "conv1")[0])
    weights = np.float64(params["fc2"]["kernel"][0]).reshape(3, 3, 4, 3)[..., 1].mean((0, 1))
    np.testing.assert_allclose(found[0], np.maximum(maps @ weights, 0), rtol=1e-5, atol=1e-6)


# --- deconvolution ---------------------------------------------------------------------------


def test_deconvolution_through_one_convolution_and_a_pool_by_hand():
    # Kernels of 2×2 pixels on 3×3 pixels: maps of 2×2, of which pooling keeps the maximum.
    net = Net((Conv("conv1", 2, 2), MaxPool("pool1", 2, 2)), crop=3)
    image = np.zeros((1, 3, 3, 3), np.float32)
    image[0, ..., 0] = [[1, 0, 0], [0, 0, 2], [0, 3, 0]]
    kernel = np.zeros((1, 2, 2, 3, 2), np.float32)
    kernel[0, :, :, 0, 0] = [[0, 1], [1, -1]]
    kernel[0, :, :, 1, 0] = [[5, 0], [0, 7]]  # sees nothing of a red picture
    params = {"conv1": {"kernel": jnp.asarray(kernel), "bias": jnp.zeros((1, 2))}}
    # Map 0 is [[0·1 + 0·1 − 0, 0 + 0 − 2], [0 + 0 − 3, 2 + 3 − 0]]: the maximum is 5, bottom right.
    found = jitted(attribution.deconvolve, net, layer="pool1")(params, image)
    expected = np.zeros((3, 3, 3))
    expected[1:, 1:] = 5 * kernel[0, ..., 0]
    np.testing.assert_array_equal(found[0], expected)


def deconvolved_in_numpy(params, image):
    """The strongest unit of conv2 of TWO_TOWERS back to the pixels, in loops."""
    ends = {k: np.float64(v[0]) for k, v in apply(TWO_TOWERS)(params, image, {})[1].items()}
    place = np.unravel_index(ends["conv2"].argmax(), ends["conv2"].shape)
    signal = np.zeros_like(ends["conv2"])
    signal[place] = ends["conv2"][place]
    kernel = np.concatenate(np.float64(params["conv2"]["kernel"]), axis=-1)
    signal = transposed(np.maximum(signal, 0), kernel)
    unpooled = np.zeros_like(ends["norm1"])
    for i in range(4):
        for j in range(4):
            for c in range(4):
                window = ends["norm1"][2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
                a, b = np.unravel_index(window.argmax(), (2, 2))
                unpooled[2 * i + a, 2 * j + b, c] = signal[i, j, c]
    kernel = np.concatenate(np.float64(params["conv1"]["kernel"]), axis=-1)
    return transposed(np.maximum(unpooled, 0), kernel)


def transposed(signal, kernel):
    """The transpose of a convolution with one zero around the image."""
    height, width, _ = signal.shape
    out = np.zeros((height + 2, width + 2, kernel.shape[2]))
    for i in range(height):
        for j in range(width):
            out[i : i + 3, j : j + 3] += kernel @ signal[i, j]
    return out[1:-1, 1:-1]


def test_deconvolution_passes_over_norms_and_rectifies_on_its_way_down():
    params, images = random_params(TWO_TOWERS), random_images(TWO_TOWERS)
    found = jitted(attribution.deconvolve, TWO_TOWERS, layer="conv2")(params, images)
    for n in range(2):
        expected = deconvolved_in_numpy(params, images[n : n + 1])
        np.testing.assert_allclose(found[n], expected, rtol=1e-4, atol=1e-4)
    strongest = jax.grad(lambda x: apply(TWO_TOWERS)(params, x, {})[1]["conv2"].max())
    gradient = strongest(images[:1])
    assert np.abs(gradient[0] - found[0]).max() > 0.1  # it is no gradient


def test_a_deconvnet_computes_the_same_as_its_net():
    norms = (LRN("across", alpha=0.5, across_towers=True), MapLRN("map", size=3, k=1.0, alpha=0.5))
    layers = (TWO_TOWERS.layers[0], *norms, *TWO_TOWERS.layers[1:])
    net = replace(TWO_TOWERS, layers=layers)
    params, images = random_params(net), random_images(net)
    ends, mirrored = (apply(x)(params, images, {})[1] for x in (net, attribution._deconvnet(net)))
    assert ends.keys() == mirrored.keys() >= {"across", "map", "norm1"}
    for name, expected in ends.items():
        np.testing.assert_allclose(mirrored[name], expected, rtol=1e-5, atol=1e-6)


# --- preferred pictures ----------------------------------------------------------------------


def test_preferred_pictures_of_a_linear_net_follow_its_weights():
    net = Net((Dense("fc", 4, activation=None, divided=False),), crop=5)
    params, key = random_params(net), jax.random.key(1)
    how = {"layer": "fc", "steps": 8, "rate": 0.5, "decay": 0.1, "key": key}
    found = jitted(attribution.preferred_pictures, net, **how)(params, units=np.array([3, 1]))
    pictures = 0.5 * np.float64(jax.random.normal(key, (2, 5, 5, 3)))
    for picture, unit, one in zip(pictures, (3, 1), found, strict=True):
        weights = np.float64(params["fc"]["kernel"][0, :, unit]).reshape(5, 5, 3)
        for step in range(8):
            picture = 0.9 * (picture + 0.5 * weights / np.sqrt((weights**2).mean()))
            if step % 4 == 3:
                for axis in (0, 1):
                    picture = convolve1d(picture, [0.25, 0.5, 0.25], axis, mode="nearest")
        np.testing.assert_allclose(one, picture, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", ["conv2", "fc3"])
def test_preferred_pictures_excite_their_units_more_than_noise_does(layer):
    params, units = random_params(TWO_TOWERS), np.arange(4)
    how = {"layer": layer, "steps": 40, "rate": 0.1, "decay": 0.01, "key": jax.random.key(0)}
    pictures = jitted(attribution.preferred_pictures, TWO_TOWERS, **how)(params, units=units)

    def excitement(images):
        outputs = endpoint(TWO_TOWERS, params, images, layer)
        return outputs[:, 2, 2] if outputs.ndim == 4 else outputs  # the centre of 4×4 places

    strength = np.sqrt((np.asarray(pictures) ** 2).mean())
    noise = RNG.normal(0, strength, (200, 8, 8, 3)).astype(np.float32)
    best_of_noise = excitement(noise).max(axis=0)[units]
    assert (excitement(pictures)[units, units] > best_of_noise).all()


def test_a_silent_unit_has_a_preferred_picture_too():
    net = Net((Conv("conv1", 2, 3), Dense("fc2", 2, activation=None, divided=False)), crop=3)
    params = random_params(net)
    params["conv1"]["bias"] = jnp.full((1, 2), -5.0)  # silent at the noise it begins with
    how = {"layer": "conv1", "steps": 80, "rate": 0.2, "decay": 0.0, "key": jax.random.key(0)}
    picture = jitted(attribution.preferred_pictures, net, **how)(params, units=np.array([0]))
    assert endpoint(net, params, picture, "conv1")[0, 0, 0, 0] > 0
