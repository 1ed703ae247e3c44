"""Eight CPU devices in the tests' own process, of which the commands that they start know nothing;
and no soak test unless it is asked for.
"""

import collections

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture
def float64():
    """Numbers of 64 bits in jax too."""
    with jax.enable_x64(True):
        yield


def pytest_collection_modifyitems(config, items):
    """Puts files with many slow tests first, so that no worker is left with one at the end.

    The long form is left out unless -m asks for it: `-m "not slow"` does not.
    """
    slow = collections.Counter(x.path for x in items if x.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
    if "soak" in config.option.markexpr:
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    items[:] = [item for item in items if item not in soak]
    config.hook.pytest_deselected(items=soak)
