"""A validation leaves nothing behind that would grow in a week of training."""

import jax
import pytest
from devices import small

from alexnet_jax.data import open_dataset
from alexnet_jax.train import validate
from alexnet_jax.train.session import open_session


@pytest.mark.slow
def test_a_validation_compiles_nothing_after_the_first():
    """Each compilation would stay in memory: 2 MB a validation, as the soak test found."""
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    config = small()
    state = open_session(config, open_dataset(config.data)).initial_state()
    after_validation = validate.make_after_validation(config)
    for error in (0.5, 0.4):
        state = after_validation(state, error, True)
    assert compiled
    compiled.clear()
    for _ in range(3):
        state = after_validation(state, 0.45, True)
    assert not compiled
    assert int(state.plateau.plateau_count) == 3
