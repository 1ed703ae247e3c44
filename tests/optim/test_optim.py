"""The update rule, its rates by layer and its schedules, against hand-worked NumPy and optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_jax.nets.variants import resolve
from alexnet_jax.optim import schedules, update
from alexnet_jax.optim.average import moving_average
from alexnet_jax.parallel import Layout
from configs.base import get_config

EXACT = {"rtol": 1e-12, "atol": 1e-15}


def config_of(**changes):
    config = get_config()
    for key, value in changes.items():
        config.optim[key] = value
    return config


def net_of(config, name="alexnet", crop=64):
    config.model.name, config.model.num_classes = name, 10
    config.model.width = 0.25 if crop == 64 else 1.0
    return resolve(config.model, crop)


def run(rule, params, grads, rates):
    """Returns the parameters and velocities after each update."""
    state, history = rule.init(params), []
    for grad, rate in zip(grads, rates, strict=True):
        steps, state = rule.update(grad, state, params, rates=rate)
        params = optax.apply_updates(params, steps)
        history.append((jax.tree.map(np.asarray, params), jax.tree.map(np.asarray, state.velocity)))
    return history


# --- the rule --------------------------------------------------------------------------------


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


# --- the average of the parameters ---------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_average_weighs_each_step_by_the_decay_and_forgets_the_initial_parameters(decay):
    """Also against optax.ema, whose bias is removed."""
    rng = np.random.default_rng(0)
    steps = [{"a": rng.normal(size=4)} for _ in range(6)]
    average, peer = {"a": np.full(4, 1e6)}, optax.ema(decay)
    state = peer.init(steps[0])
    with jax.enable_x64(True):
        for i, params in enumerate(steps):
            average = moving_average(decay, params, average, jnp.int32(i))
            expected, state = peer.update(params, state)
            weights = decay ** np.arange(i, -1, -1.0)
            ours = np.average([x["a"] for x in steps[: i + 1]], axis=0, weights=weights)
            np.testing.assert_allclose(average["a"], ours, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(expected["a"], ours, rtol=1e-3, atol=1e-3)


def test_there_is_no_average_without_a_decay():
    assert moving_average(0.0, {"a": 1.0}, None, jnp.int32(0)) is None


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
    ],
)
def test_decay_of_the_cifar_nets_is_the_layers_own(name, expected):
    config = config_of(weight_decay=0.0005)
    decays = update.decays(config.optim, net_of(config, name, 32))
    assert {layer: x["kernel"] for layer, x in decays.items()} == expected
    assert all(x["bias"] == 0 for x in decays.values())


def rates_of(config, step, scale=1.0, epoch=10, total=100, name="alexnet", crop=64):
    at = schedules.learning_rates(config.optim, net_of(config, name, crop), epoch, total)
    rates = at(jnp.int32(step), jnp.float32(scale))
    return {layer: (float(x["kernel"]), float(x["bias"])) for layer, x in rates.items()}


def test_a_bias_learns_at_twice_the_rate_of_the_weights():
    rates = rates_of(config_of(schedule="constant", learning_rate=0.01), 0)
    assert all(pair == pytest.approx((0.01, 0.02)) for pair in rates.values())


def test_a_plateau_drop_takes_the_biases_with_it_unless_they_keep_their_rate():
    follows, keeps = config_of(schedule="plateau"), config_of(bias_follows=False)
    assert rates_of(follows, 5, scale=0.1)["conv2"] == pytest.approx((0.001, 0.002))
    assert rates_of(keeps, 5, scale=0.1)["conv2"] == pytest.approx((0.001, 0.02))


def test_conv1_leaves_the_schedule_and_is_frozen_as_in_the_log_of_net_145():
    config = config_of(
        schedule="listed",
        listed=((25, 1e-3), (51, 1e-4), (79, 1e-5)),
        listed_layers=(("conv1", 67, 1e-5), ("conv1", 72, 0.0)),
        bias_follows=False,
    )
    expected = {  # epoch: conv1's weights and biases, conv2's weights and biases
        0: (1e-2, 0.02, 1e-2, 0.02),
        24: (1e-2, 0.02, 1e-2, 0.02),
        25: (1e-3, 0.02, 1e-3, 0.02),
        51: (1e-4, 0.02, 1e-4, 0.02),
        66: (1e-4, 0.02, 1e-4, 0.02),
        67: (1e-5, 0.02, 1e-4, 0.02),
        72: (0, 0, 1e-4, 0.02),
        79: (0, 0, 1e-5, 0.02),
        90: (0, 0, 1e-5, 0.02),
    }
    for epoch, values in expected.items():
        rates = rates_of(config, epoch * 10)
        assert (*rates["conv1"], *rates["conv2"]) == pytest.approx(values, rel=1e-6), epoch


def test_a_layers_rates_are_multiples_of_the_others_through_the_schedule():
    config = config_of(
        schedule="listed",
        listed=((5, 0.001),),
        layer_factors=(("conv1", 0), ("conv2", 0.1), ("fc8", 10.0)),
    )
    for epoch, rate in ((0, 0.01), (5, 0.001)):
        rates = rates_of(config, epoch * 10)
        assert rates["conv1"] == (0, 0)
        assert rates["conv2"] == pytest.approx((0.1 * rate, 0.2 * rate))
        assert rates["fc8"] == pytest.approx((10 * rate, 20 * rate))
        assert rates["fc7"] == pytest.approx((rate, 2 * rate))


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


# --- schedules -------------------------------------------------------------------------------


def values_of(config, steps, epoch=10, total=100):
    schedule = schedules.schedule(config.optim, epoch, total)
    return [float(schedule(jnp.int32(step))) for step in steps]


def test_constant_and_plateau_hold_the_first_rate():
    for name in ("constant", "plateau"):
        config = config_of(schedule=name, learning_rate=0.02)
        assert values_of(config, (0, 50, 99)) == pytest.approx([0.02] * 3)


def test_listed_changes_at_the_first_step_of_its_epoch():
    config = config_of(schedule="listed", listed=((2, 0.001), (5.5, 0.0001)))
    assert values_of(config, (0, 19, 20, 54, 55, 99)) == pytest.approx(
        [0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
    )


def test_listed_may_rise_again():
    config = config_of(schedule="listed", listed=((2, 0.001), (4, 0.01)))
    assert values_of(config, (0, 39, 40)) == pytest.approx([0.01, 0.001, 0.01])


def test_other_schedules_ignore_the_list():
    config = config_of(schedule="constant", listed=((0, 0.5),))
    assert values_of(config, (0, 99)) == pytest.approx([0.01, 0.01])


def test_dexp_is_the_released_codes_on_equal_quarters_of_training():
    config = config_of(schedule="dexp", dexp_target=250.0, dexp_steps=4)
    published = [0.01, 0.001587, 0.000252, 0.00004]
    for quarter, rate in enumerate(published):
        steps = (25 * quarter, 25 * quarter + 24)
        assert values_of(config, steps) == pytest.approx([rate] * 2, rel=1e-3)


FEW = settings(max_examples=15, deadline=None)


@given(
    st.lists(st.integers(1, 50), max_size=4, unique=True).map(sorted),
    st.integers(1, 30),
    st.integers(0, 2000),
)
@FEW
def test_a_listed_value_holds_from_its_epoch_on(epochs, epoch_steps, step):
    changes = [(epoch, 1.0 / (i + 2)) for i, epoch in enumerate(epochs)]
    wanted = 1.0
    for epoch, value in changes:
        if step // epoch_steps >= epoch:
            wanted = value
    assert schedules.listed(1.0, changes, epoch_steps)(step) == np.float32(wanted)


@given(st.floats(1.5, 1000), st.integers(2, 6), st.integers(10, 1000), st.integers(0, 999))
@FEW
def test_dexp_goes_down_in_equal_steps(target, parts, total, step):
    step = min(step, total - 1)
    part = sum(step >= round(i * total / parts) for i in range(1, parts))
    wanted = 0.01 * target ** (-part / (parts - 1))
    np.testing.assert_allclose(schedules.dexp(0.01, target, parts, total)(step), wanted, rtol=1e-5)


def test_dexp_of_the_biases_in_the_released_code():
    config = config_of(
        schedule="dexp", learning_rate=0.02, dexp_target=10.0, dexp_steps=2
    )  # dexp[tgtFactor=10, numSteps=2]
    assert values_of(config, (0, 49, 50, 99)) == pytest.approx([0.02, 0.02, 0.002, 0.002])


def test_cosine_by_hand():
    config = config_of(schedule="cosine")
    expected = [0.01, 0.01 * (1 + np.cos(np.pi / 4)) / 2, 0.005, 0.01 * (1 - np.cos(np.pi / 4)) / 2]
    assert values_of(config, (0, 25, 50, 75)) == pytest.approx(expected, rel=1e-5)
    assert values_of(config, (100,)) == pytest.approx([0], abs=1e-9)


def test_linear_by_hand():
    config = config_of(schedule="linear")
    assert values_of(config, (0, 25, 50, 99)) == pytest.approx([0.01, 0.0075, 0.005, 0.0001])


def test_a_warm_up_rises_by_equal_steps_up_to_the_schedule():
    # two epochs of ten steps: step i has (i + 1) / 20 of the schedule's rate
    for name, rate in (("constant", lambda i: 0.01), ("linear", lambda i: 0.01 * (1 - i / 100))):
        config = config_of(schedule=name, warmup_epochs=2.0)
        expected = [rate(i) * min(1, (i + 1) / 20) for i in (0, 1, 9, 18, 19, 20, 60)]
        assert values_of(config, (0, 1, 9, 18, 19, 20, 60)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("epochs", [0.0, 0.1])
def test_a_warm_up_of_at_most_one_step_changes_nothing(epochs):
    config = config_of(schedule="constant", warmup_epochs=epochs)
    assert values_of(config, (0, 1)) == pytest.approx([0.01, 0.01])


def scales(config, errors):
    """Returns the factor on the learning rate after each validation."""
    plateau = schedules.plateau(config.optim)
    state, result = plateau.init(jnp.float32(0)), []
    for error in errors:
        _, state = plateau.update((), state, value=error)
        result.append(float(state.scale))
    return result


def test_plateau_by_hand():
    # patience 2: it drops at the second validation in a row that is not better than the best
    config = config_of(plateau_patience=2)
    errors = [0.5, 0.4, 0.45, 0.39, 0.39, 0.40, 0.38, 0.385, 0.39, 0.38, 0.41, 0.37]
    expected = [1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    assert scales(config, errors) == pytest.approx(expected, rel=1e-5)


def test_plateau_drops_three_times_at_most():
    config = config_of(plateau_patience=1)
    expected = [1, 0.1, 0.01, 0.001, 0.001, 0.001, 0.001]
    assert scales(config, [0.5] * 7) == pytest.approx(expected, rel=1e-5)


def test_plateau_waits_for_its_patience_and_counts_anew_after_a_drop():
    config = config_of()  # five validations without a lower error
    expected = [1] * 5 + [0.1] * 5 + [0.01] * 5 + [0.001] * 6
    assert scales(config, [0.5] * 21) == pytest.approx(expected, rel=1e-5)


def test_plateau_takes_its_factor_and_number_of_drops_from_the_config():
    config = config_of(plateau_patience=1, plateau_factor=0.5, plateau_drops=2)
    assert scales(config, [0.5] * 5) == pytest.approx([1, 0.5, 0.25, 0.25, 0.25])
    never = config_of(plateau_patience=1, plateau_drops=0)
    assert scales(never, [0.5] * 4) == [1, 1, 1, 1]


def test_plateau_never_drops_while_the_error_falls_however_little():
    config = config_of(plateau_patience=1)
    assert scales(config, [0.5 - i / 50_000 for i in range(10)]) == [1] * 10
