"""The PyTorch twin computes what our nets compute, where PyTorch is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

torch = pytest.importorskip("torch")

from alexnet_jax.benchmark.pytorch.twin import load, make_step, twin  # noqa: E402
from alexnet_jax.nets.model import build_model  # noqa: E402
from alexnet_jax.nets.shapes import without_statistics  # noqa: E402
from alexnet_jax.nets.spec import Dropout  # noqa: E402
from alexnet_jax.nets.zoo import NETS  # noqa: E402
from alexnet_jax.optim.schedules import learning_rates  # noqa: E402
from alexnet_jax.optim.update import make_optimizer  # noqa: E402
from configs import base  # noqa: E402

WIDTHS = {"four_layer": 1 / 4, "cuda_convnet_18pct": 1 / 4}
NUMBER = 3  # images


def small(name, **model):
    """A narrow net with large weights, so that norms and places matter; no dropout."""
    config = base.get_config()
    config.model.name, config.model.num_classes = name, 10
    config.model.width = WIDTHS.get(name, 1 / 16)
    config.data.crop_size = {224: 67, 227: 67}.get(NETS[name].crop, 23)
    for key, value in model.items():
        config.model[key] = value
    return config


def ours(config):
    """The net, its model and random parameters, biases too."""
    model = build_model(config)
    images = jnp.zeros((1, model.net.crop, model.net.crop, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    rng = np.random.default_rng(0)

    def drawn(name, shape):
        if name == "kernel":
            return rng.normal(0, 1.5 / np.prod(shape[1:-1]) ** 0.5, shape)
        return (
            rng.uniform(0.5, 2, shape)
            if name in ("scale", "variance")
            else rng.normal(0, 0.1, shape)
        )

    return model, {
        layer: {name: drawn(name, x.shape).astype(np.float32) for name, x in leaves.items()}
        for layer, leaves in shapes.items()
    }


def images_for(net, std=50):
    shape = (NUMBER, net.crop, net.crop, 3)
    return np.random.default_rng(1).normal(0, std, shape).astype(np.float32)


def nchw(images):
    return torch.tensor(images.transpose(0, 3, 1, 2).copy())


CASES = [(name, {}) for name in NETS] + [
    ("alexnet", {"exchange": ("conv3", "fc8")}),  # dense layers in groups
    ("alexnet", {"lrn": False, "activation": "tanh"}),
    ("alexnet", {"towers": 4, "width": 1 / 8, "pool_size": 2}),
    ("alexnet", {"lrn": False, "without": ("conv4",)}),
    ("cuda_convnet_11pct", {"towers": 2, "width": 1 / 4, "exchange": ("fc10",)}),
    ("cuda_convnet_11pct", {"towers": 2, "width": 1 / 4, "exchange": ("local4", "fc10")}),
]


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_logits_are_equal(name, changes):
    model, params = ours(small(name, **changes))
    images = images_for(model.net, 0.5 if "activation" in changes else 50)
    expected, _ = jax.jit(model.apply)({"params": params}, images)
    module = twin(model.net).eval()
    load(module, model.net, params)
    with torch.no_grad():
        logits = module(nchw(images)).numpy()
    scale = np.abs(expected).max()
    assert np.ptp(expected, axis=0).max() > 1e-2 * scale  # the images tell them apart
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize(
    "name", ["alexnet", "alexnet_batch_norm", "one_weird_trick", "cuda_convnet_11pct"]
)
def test_two_steps_give_the_same_losses(name):
    """Gradients, rates and weight decay by layer, and momentum."""
    config = small(name)
    config.model.without = tuple(x.name for x in NETS[name].layers if isinstance(x, Dropout))
    config.optim.learning_rate, config.optim.weight_decay = 0.003, 0.1
    model, params = ours(config)
    images, labels = images_for(model.net), np.arange(NUMBER)
    optimizer = make_optimizer(config.optim, model.net, model.layout)
    rates = learning_rates(config.optim, model.net, 1000, 1000)(jnp.int32(0), jnp.float32(1))

    def loss_of(params):
        logits, _ = model.apply({"params": params}, images, train=True)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def our_step(params, state):
        loss, grads = jax.value_and_grad(loss_of)(params)
        changes, state = optimizer.update(grads, state, params, rates=rates)
        return optax.apply_updates(params, changes), state, loss

    their_step = make_step(config, model.net, params, "cpu")
    params = without_statistics(params)
    state, losses = optimizer.init(params), []
    for _ in range(3):
        params, state, loss = our_step(params, state)
        losses.append((float(loss), their_step(nchw(images), torch.tensor(labels)).item()))
    assert abs(losses[0][0] - losses[2][0]) > 0.05 * losses[0][0], losses  # the steps matter
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=2e-3)


def test_dropout_keeps_units_as_they_are():
    """Not inverted: what is kept keeps its value; a test scales by one half."""
    config = small("alexnet")
    model, params = ours(config)
    module = twin(model.net)
    load(module, model.net, params)
    x = torch.ones(4, 1000)
    assert set(module.drop6.train()(x).unique().tolist()) == {0.0, 1.0}
    assert set(module.drop6.eval()(x).unique().tolist()) == {0.5}
