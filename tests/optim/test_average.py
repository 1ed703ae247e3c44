"""The average of the parameters, against NumPy and optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alexnet_jax.optim.average import moving_average


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
