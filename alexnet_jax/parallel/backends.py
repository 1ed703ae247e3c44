"""The devices that JAX sees in this process."""

import jax
from jax.extend.backend import clear_backends


def force_cpu_devices(count: int) -> None:
    """Makes JAX see at least `count` CPU devices and no others.

    It has to run before JAX first looks for devices. A larger JAX_NUM_CPU_DEVICES is kept.
    """
    # A machine with a GPU would otherwise offer only that.
    jax.config.update("jax_platforms", "cpu")
    if jax.config.jax_num_cpu_devices < count:
        jax.config.update("jax_num_cpu_devices", count)


def release_devices() -> None:
    """Releases the devices that this process has counted, so that other processes can use them."""
    # A process that has counted a GPU holds its memory until its backend is gone.
    clear_backends()
