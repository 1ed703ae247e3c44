"""Learning rates by layer and the schedules, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_configs import config_of, net_of

from alexnet_jax.optim import schedules


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


def test_a_schedule_that_does_not_exist_is_no_constant_rate():
    """The flags are checked before; this is a config that Python made."""
    with pytest.raises(KeyError, match="exponential"):
        values_of(config_of(schedule="exponential"), (0,))


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
    update = jax.jit(plateau.update)
    state, result = plateau.init(jnp.float32(0)), []
    for error in errors:
        _, state = update((), state, value=error)
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
