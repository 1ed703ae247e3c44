"""The update rules and their decay by layer, against hand-worked NumPy and optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optim_configs import config_of, net_of

from alexnet_jax.optim import schedules, update
from alexnet_jax.parallel import Layout

EXACT = {"rtol": 1e-12, "atol": 1e-15}


def run(rule, params, grads, rates):
    """Returns the parameters and velocities after each update."""
    state, history = rule.init(params), []
    for grad, rate in zip(grads, rates, strict=True):
        steps, state = rule.update(grad, state, params, rates=rate)
        params = optax.apply_updates(params, steps)
        history.append((jax.tree.map(np.asarray, params), jax.tree.map(np.asarray, state.velocity)))
    return history


# --- the rule --------------------------------------------------------------------------------


def test_a_rule_that_does_not_exist_is_no_other_rule():
    """The flags are checked before; this is a config that Python made."""
    config = config_of(name="adam")
    with pytest.raises(KeyError, match="adam"):
        update.make_optimizer(config.optim, net_of(config), Layout())


def test_the_papers_rule_by_hand_across_a_drop_of_the_rate():
    # v ← 0.9 v − 0.5 ε w − ε g, w ← w + v, from w = 1, with g = 1, 2, 3 and ε = 0.1, 0.1, 0.01
    # v₁ = −0.05 − 0.1 = −0.15                        w₁ = 0.85
    # v₂ = −0.135 − 0.0425 − 0.2 = −0.3775            w₂ = 0.4725
    # v₃ = −0.33975 − 0.0023625 − 0.03 = −0.3721125   w₃ = 0.1003875: it coasts on at the old rate
    with jax.enable_x64(True):
        rule = update.momentum_rule(jnp.float64(0.5), 0.9, rate_inside=True)
        grads, rates = map(jnp.float64, (1, 2, 3)), map(jnp.float64, (0.1, 0.1, 0.01))
        history = run(rule, jnp.float64(1), grads, rates)
    np.testing.assert_allclose([w for w, _ in history], [0.85, 0.4725, 0.1003875], **EXACT)
    np.testing.assert_allclose([v for _, v in history], [-0.15, -0.3775, -0.3721125], **EXACT)


def test_the_sgd_rule_by_hand_across_a_drop_of_the_rate():
    # v ← 0.9 v + g + 0.5 w, w ← w − ε v
    # v₁ = 1.5                            w₁ = 0.85
    # v₂ = 1.35 + 2.425 = 3.775           w₂ = 0.4725
    # v₃ = 3.3975 + 3.23625 = 6.63375     w₃ = 0.4725 − 0.0663375 = 0.4061625
    with jax.enable_x64(True):
        rule = update.momentum_rule(jnp.float64(0.5), 0.9, rate_inside=False)
        grads, rates = map(jnp.float64, (1, 2, 3)), map(jnp.float64, (0.1, 0.1, 0.01))
        history = run(rule, jnp.float64(1), grads, rates)
    np.testing.assert_allclose([w for w, _ in history], [0.85, 0.4725, 0.4061625], **EXACT)


def random_training(steps=12):
    """Draws parameters and gradients of two layers in float64; the rate drops twice."""
    rng = np.random.default_rng(0)
    params = {"a": {"kernel": rng.normal(size=(3, 4))}, "b": {"kernel": rng.normal(size=5)}}
    grads = [jax.tree.map(lambda x: rng.normal(size=x.shape), params) for _ in range(steps)]
    return params, grads, [0.1] * 4 + [0.01] * 4 + [0.001] * (steps - 8)


def test_the_sgd_rule_is_optax_sgd_with_decay_added_before_it():
    params, grads, rates = random_training()
    decays = {"a": {"kernel": 0.05}, "b": {"kernel": 0.05}}
    with jax.enable_x64(True):
        rule = update.momentum_rule(decays, 0.9, rate_inside=False)
        everywhere = [jax.tree.map(lambda _, r=r: jnp.float64(r), params) for r in rates]
        ours = run(rule, params, grads, everywhere)
        schedule = optax.piecewise_constant_schedule(0.1, {4: 0.1, 8: 0.1})
        theirs = optax.chain(optax.add_decayed_weights(0.05), optax.sgd(schedule, momentum=0.9))
        state = theirs.init(params)
        for grad, (expected, _) in zip(grads, ours, strict=True):
            steps, state = theirs.update(grad, state, params)
            params = optax.apply_updates(params, steps)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, expected)


def test_the_papers_rule_is_numpys_with_its_own_decay_for_each_layer():
    params, grads, rates = random_training()
    decays = {"a": {"kernel": 1.0}, "b": {"kernel": 0.004}}
    with jax.enable_x64(True):
        rule = update.momentum_rule(decays, 0.9, rate_inside=True)
        everywhere = [jax.tree.map(lambda _, r=r: jnp.float64(r), params) for r in rates]
        ours = run(rule, params, grads, everywhere)
    for layer in ("a", "b"):
        w, v = params[layer]["kernel"], 0.0
        for grad, rate, (params_then, velocity) in zip(grads, rates, ours, strict=True):
            v = 0.9 * v - decays[layer]["kernel"] * rate * w - rate * grad[layer]["kernel"]
            w = w + v
            np.testing.assert_allclose(params_then[layer]["kernel"], w, **EXACT)
            np.testing.assert_allclose(velocity[layer]["kernel"], v, **EXACT)


@pytest.mark.parametrize("rate_inside", [True, False])
def test_at_rate_0_neither_a_parameter_nor_its_velocity_changes(rate_inside):
    with jax.enable_x64(True):
        rule = update.momentum_rule(jnp.float64(0.5), 0.9, rate_inside)
        grads, rates = map(jnp.float64, (1, 2, 3, 4)), map(jnp.float64, (0.1, 0, 0, 0.1))
        (w1, v1), (w2, v2), (w3, v3), (w4, _) = run(rule, jnp.float64(1), grads, rates)
    assert w1 == w2 == w3 != w4
    assert v1 == v2 == v3 != 0


def test_a_config_takes_the_rule_of_its_name():
    for name, drop in (("paper", 0.1003875), ("sgd", 0.4061625)):
        config = config_of(name=name, weight_decay=0.5)
        with jax.enable_x64(True):
            rule = update.make_optimizer(config.optim, net_of(config), Layout())
            ones = {
                layer: {"kernel": jnp.float64(1), "bias": jnp.float64(1)}
                for layer in update.decays(config.optim, net_of(config))
            }
            scaled = [jax.tree.map(lambda x, f=f: f * x, ones) for f in (1, 2, 3)]
            rates = [jax.tree.map(lambda x, f=f: f * x, ones) for f in (0.1, 0.1, 0.01)]
            kernel = run(rule, ones, scaled, rates)[-1][0]["conv2"]["kernel"]
        np.testing.assert_allclose(kernel, drop, **EXACT)


def test_lars_is_optax_lars_with_the_biases_masked():
    params, grads, rates = random_training()
    params = {name: {**leaves, "bias": np.ones(3)} for name, leaves in params.items()}
    grads = [{name: {**g, "bias": np.full(3, 0.1)} for name, g in both.items()} for both in grads]
    decays = {name: {"kernel": 0.05, "bias": 0.0} for name in params}
    with jax.enable_x64(True):
        rule = update.lars_rule(decays, 0.9, 0.02, norms_of_kernels)
        everywhere = [jax.tree.map(lambda _, r=r: jnp.float64(r), params) for r in rates]
        ours = run(rule, params, grads, everywhere)
        kernels = {name: {"kernel": True, "bias": False} for name in params}
        theirs = optax.lars(
            optax.piecewise_constant_schedule(0.1, {4: 0.1, 8: 0.1}),
            weight_decay=0.05,
            weight_decay_mask=kernels,
            trust_coefficient=0.02,
            trust_ratio_mask=kernels,
            momentum=0.9,
        )
        state = theirs.init(params)
        for grad, (expected, _) in zip(grads, ours, strict=True):
            steps, state = theirs.update(grad, state, params)
            params = optax.apply_updates(params, steps)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, expected)


def norms_of_kernels(tree):
    return {name: jnp.sqrt((leaves["kernel"] ** 2).sum()) for name, leaves in tree.items()}


def test_lars_by_hand():
    # ‖w‖ = 5, f = g + 0.5 w = (3, 4), ‖f‖ = 5, factor 0.1·5/5, rate 0.2: w ← w − 0.02 (3, 4)
    params = {"a": {"kernel": np.array([3.0, 4.0]), "bias": np.array([1.0])}}
    grads = {"a": {"kernel": np.array([1.5, 2.0]), "bias": np.array([2.0])}}
    rates = jax.tree.map(lambda _: 0.2, params)
    decays = {"a": {"kernel": 0.5, "bias": 0.0}}
    with jax.enable_x64(True):
        rule = update.lars_rule(decays, 0.9, 0.1, norms_of_kernels)
        ((after, _),) = run(rule, params, [grads], [rates])
    np.testing.assert_allclose(after["a"]["kernel"], [2.94, 3.92], **EXACT)
    np.testing.assert_allclose(after["a"]["bias"], [0.6], **EXACT)


def test_lars_leaves_a_kernel_of_zeros_its_plain_step():
    params = {"a": {"kernel": np.zeros(2), "bias": np.zeros(1)}}
    grads = {"a": {"kernel": np.array([1.0, 2.0]), "bias": np.zeros(1)}}
    rates = jax.tree.map(lambda _: 0.1, params)
    rule = update.lars_rule({"a": {"kernel": 0.5, "bias": 0.0}}, 0.9, 0.001, norms_of_kernels)
    ((after, _),) = run(rule, params, [grads], [rates])
    np.testing.assert_allclose(after["a"]["kernel"], [-0.1, -0.2], rtol=1e-6)


# --- decay and rate by layer -----------------------------------------------------------------


def test_decay_is_the_configs_for_weights_and_none_for_biases():
    config = config_of(weight_decay=0.0005)
    decays = update.decays(config.optim, net_of(config))
    assert sorted(decays) == sorted([f"conv{i}" for i in range(1, 6)] + ["fc6", "fc7", "fc8"])
    assert all(x == {"kernel": 0.0005, "bias": 0.0} for x in decays.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cuda_convnet_18pct", {"conv1": 0.004, "conv2": 0.004, "conv3": 0.004, "fc10": 1.0}),
        (
            "cuda_convnet_13pct",
            {"conv1": 0, "conv2": 0, "local3": 0.004, "local4": 0.004, "fc10": 0.004},
        ),
        (
            "cuda_convnet_11pct",
            {"conv1": 0, "conv2": 0, "local3": 0.004, "local4": 0.004, "fc10": 0.01},
        ),
        ("four_layer", {"conv1": 0, "conv2": 0, "conv3": 0, "fc10": 0}),
    ],
)
def test_decay_of_the_cifar_nets_is_the_layers_own(name, expected):
    config = config_of(weight_decay=0.0005)
    decays = update.decays(config.optim, net_of(config, name, 32))
    assert {layer: x["kernel"] for layer, x in decays.items()} == expected
    assert all(x["bias"] == 0 for x in decays.values())


def test_a_frozen_layers_weights_biases_and_velocities_stay_as_they_are():
    config = config_of(
        schedule="constant",
        listed_layers=(("conv1", 2, 0.0),),
        bias_follows=False,
        weight_decay=0.5,
    )
    net = net_of(config)
    rule, at = (
        update.make_optimizer(config.optim, net, Layout()),
        schedules.learning_rates(config.optim, net, 1, 10),
    )
    params = {
        layer: {"kernel": jnp.ones(3), "bias": jnp.ones(2)}
        for layer in update.decays(config.optim, net)
    }
    rates = [at(jnp.int32(step), jnp.float32(1)) for step in range(4)]
    history = run(rule, params, [params] * 4, rates)
    at_freezing = history[1]
    for now in history[2:]:
        for part in (0, 1):
            for name in ("kernel", "bias"):
                np.testing.assert_array_equal(
                    now[part]["conv1"][name], at_freezing[part]["conv1"][name]
                )
                assert (now[part]["conv2"][name] != at_freezing[part]["conv2"][name]).all()
