"""Batch normalisation against NumPy and flax's own: moments, running averages, several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from devices import advanced, assert_same, by_name, prepared, small
from flax import linen as nn
from reference import conv

from alexnet_jax.data import open_dataset
from alexnet_jax.nets import ops
from alexnet_jax.nets.model import build_model
from alexnet_jax.nets.shapes import layer_shapes, without_statistics
from alexnet_jax.nets.variants import resolve
from alexnet_jax.train.session import open_session
from alexnet_jax.train.step import with_statistics
from configs import base

BN = "alexnet_batch_norm"


def moments(x, mask):
    """Mean and variance of each map over the images that count, in float64."""
    kept = np.float64(x)[mask > 0].reshape(-1, x.shape[-1])
    return kept.mean(0), ((kept - kept.mean(0)) ** 2).mean(0)


@pytest.mark.parametrize("places", [(), (4, 5)])
def test_the_moments_are_numpys_over_the_images_that_count(places, float64):
    x = np.random.default_rng(0).normal(3, 2, (6, *places, 7))
    mask = np.array([1, 0, 1, 1, 0, 1.0])
    found = ops.batch_moments(x, mask, lambda total: total)
    for ours, expected in zip(found, moments(x, mask), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_normalising_is_numpys(float64):
    rng = np.random.default_rng(0)
    x, mean, bias = rng.normal(size=(2, 3, 3, 5)), rng.normal(size=5), rng.normal(size=5)
    variance, scale = rng.uniform(0.1, 2, 5), rng.uniform(0.5, 2, 5)
    expected = scale * (x - mean) / np.sqrt(variance + 1e-5) + bias
    found = ops.batch_norm(x, mean, variance, scale, bias, 1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


# --- in a net ------------------------------------------------------------------------------------


def loaded(seed=0):
    """A narrow net, its parameters with random scales and averages, and a batch of six images."""
    model = build_model(small(BN))
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 50, (6, 64, 64, 3)).astype(np.float32)
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]
    params = jax.tree.map(
        lambda x: x * rng.uniform(0.5, 1.5, x.shape).astype(np.float32) + 0.01, params
    )
    return model, params, images


def train(model, params, images, **options):
    rngs = {"dropout": jax.random.key(1)}
    return model.apply({"params": params}, images, train=True, rngs=rngs, **options)


@pytest.mark.slow
def test_training_normalises_by_the_batch_and_a_test_by_the_running_averages():
    """conv1's maps and norm1's, tower by tower, by NumPy and by flax.linen.BatchNorm."""
    model, params, images = loaded()
    norm = jax.tree.map(np.float64, params["norm1"])
    kernel = np.float64(params["conv1"]["kernel"])
    (_, ends), found = train(model, params, images, mutable=["batch_stats"])
    _, tested = model.apply({"params": params}, images)
    for tower in (0, 1):
        y = conv(np.float64(images), kernel[tower], 0.0, stride=4, over=3)
        own = slice(3 * tower, 3 * tower + 3)
        mean, variance = moments(y, np.ones(6))
        running = (norm["mean"][tower], norm["variance"][tower])
        for (centre, spread), end in (((mean, variance), ends), (running, tested)):
            factor = norm["scale"][tower] / np.sqrt(spread + 1e-5)
            expected = (y - centre) * factor + norm["bias"][tower]
            np.testing.assert_allclose(end["norm1"][..., own], expected, rtol=1e-3, atol=1e-4)
        left = found["batch_stats"]["norm1"]
        np.testing.assert_allclose(left["mean"][tower], mean, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(left["variance"][tower], variance, rtol=1e-4)
        theirs = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)
        scales = {"scale": params["norm1"]["scale"][tower], "bias": params["norm1"]["bias"][tower]}
        stats = {"mean": jnp.zeros(3), "var": jnp.ones(3)}
        peer, _ = theirs.apply(
            {"params": scales, "batch_stats": stats}, jnp.float32(y), mutable=["batch_stats"]
        )
        np.testing.assert_allclose(ends["norm1"][..., own], peer, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_padding_has_no_part_in_the_moments():
    model, params, images = loaded()
    mask = jnp.array([1, 1, 1, 1, 0, 0.0])
    (logits, _), found = train(model, params, images, mask=mask, mutable=["batch_stats"])
    (alone, _), expected = train(model, params, images[:4], mutable=["batch_stats"])
    np.testing.assert_allclose(logits[:4], alone, rtol=1e-4, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )
    other = images.copy()
    other[4:] += 100
    (logits, _), _ = train(model, params, other, mask=mask, mutable=["batch_stats"])
    np.testing.assert_allclose(logits[:4], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_tested_image_does_not_depend_on_the_others():
    model, params, images = loaded()
    together, _ = model.apply({"params": params}, images)
    alone, _ = model.apply({"params": params}, images[:1])
    np.testing.assert_allclose(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_the_averages_move_by_a_tenth_towards_the_moments():
    net = resolve(small(BN).model, 64)
    statistics = {"mean": np.array([1.0, 2.0]), "variance": np.array([1.0, 4.0])}
    params = {"conv1": {"kernel": 5}, "norm1": {"scale": 7, "bias": 8, **statistics}}
    moment = {"norm1": {"mean": np.array([11.0, 2.0]), "variance": np.array([0.0, 14.0])}}
    found = with_statistics(without_statistics(params), params, moment, net)
    np.testing.assert_allclose(found["norm1"].pop("mean"), [2, 2])
    np.testing.assert_allclose(found["norm1"].pop("variance"), [0.9, 5])
    assert found == {"conv1": {"kernel": 5}, "norm1": {"scale": 7, "bias": 8}}


@pytest.mark.slow
def test_a_step_takes_the_moments_of_its_batch():
    """One step from averages of 0 and 1, of the centres of the digits less the mean."""
    config = small(BN)
    config.data.augment.crop = config.data.augment.flip = False
    config.data.augment.colour = "none"
    step, state, batches = prepared(config)
    batch, kernel = next(batches), np.float64(state.params["conv1"]["kernel"])
    mean_image = open_dataset(config.data).mean_image[4:68, 4:68]
    images = np.float64(batch["image"])[:, 4:68, 4:68] - mean_image
    state, _ = step(state, batch)
    for tower in (0, 1):
        y = conv(images, kernel[tower], 0.0, stride=4, over=3)
        mean, variance = moments(y, np.ones(32))
        found = jax.tree.map(lambda x, i=tower: np.asarray(x)[i], state.params["norm1"])
        np.testing.assert_allclose(found["mean"], 0.1 * mean, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found["variance"], 0.9 + 0.1 * variance, rtol=1e-3)


@pytest.mark.slow
def test_the_averages_have_no_velocity_and_a_normalised_convolution_has_no_bias():
    _, state, _ = prepared(small(BN))
    assert state.opt_state.velocity["norm1"].keys() == {"scale", "bias"}
    assert state.params["norm1"].keys() == {"scale", "bias", "mean", "variance"}
    assert state.params["conv1"].keys() == {"kernel"}


# --- on several devices --------------------------------------------------------------------------


def trained(steps=2, **layout):
    """Parameters by name and losses after some steps whose batches have five images of padding."""
    config = small(BN, **layout)
    dataset = open_dataset(config.data)
    session = open_session(config, dataset)
    mask = session.devices.shard(np.repeat(np.float32([1, 0]), [27, 5]), 32)
    batches = session.batches(dataset.splits["train"], first_step=0)
    padded = ({**batch, "mask": mask} for batch in batches)
    state, losses = advanced(session.make_step(), session.initial_state(), padded, steps)
    return by_name(state.params), losses


@pytest.fixture(scope="module")
def alone():
    return trained()


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout",
    [{"data": 4}, {"tower": 2}, {"data": 2, "tower": 2, "scheme": "hybrid"}],
    ids=str,
)
def test_any_layout_trains_the_same_net(layout, alone):
    """The moments are of the whole batch, wherever its images lie."""
    assert_same(trained(**layout), alone)


def test_one_column_is_the_ungrouped_net():
    """96-256-384-384-256 maps, each of which reads all maps below."""
    config = base.get_config()
    config.model.name, config.model.towers, config.model.width = BN, 1, 1.0
    config.model.num_classes = 1000
    shapes = layer_shapes(resolve(config.model, 224), 224)
    kernels = {shape.layer.name: shape.kernel for shape in shapes}
    assert {name: x for name, x in kernels.items() if name.startswith("conv")} == {
        "conv1": (1, 11, 11, 3, 96),
        "conv2": (1, 5, 5, 96, 256),
        "conv3": (1, 3, 3, 256, 384),
        "conv4": (1, 3, 3, 384, 384),
        "conv5": (1, 3, 3, 384, 256),
    }
