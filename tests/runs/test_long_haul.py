"""What would grow in a week of training; test_soak.py watches ten thousand steps."""

import jax
from devices import small

from alexnet_jax import parallel, train
from alexnet_jax.nets.model import build_model


def test_a_validation_compiles_nothing_after_the_first():
    """Each compilation would stay in memory: 2 MB a validation, as the soak test found."""
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    config = small()
    model, layout = build_model(config), parallel.Layout()
    make, specs = train.make_initial_state(config, model), train.state_specs(model, layout)
    state = parallel.born_on(make, parallel.make_mesh(layout), specs)()
    after_validation = train.make_after_validation(config)
    for error in (0.5, 0.4):
        state = after_validation(state, error)
    assert compiled
    compiled.clear()
    for _ in range(3):
        state = after_validation(state, 0.45)
    assert not compiled
    assert int(state.plateau.plateau_count) == 3
