"""Eight CPU devices in the tests' own process, of which the commands that they start know nothing;
and no soak test unless it is asked for.
"""

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture
def float64():
    """Numbers of 64 bits in jax too."""
    with jax.enable_x64(True):
        yield


def pytest_collection_modifyitems(config, items):
    """Leaves out the long form unless -m asks for it: `-m "not slow"` does not."""
    if "soak" in config.option.markexpr:
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    items[:] = [item for item in items if item not in soak]
    config.hook.pytest_deselected(items=soak)
