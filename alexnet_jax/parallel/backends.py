"""The devices that JAX sees in this process."""

import jax
from jax.extend.backend import clear_backends


def force_cpu_devices(count: int) -> None:
    """Makes JAX see at least `count` CPU devices and no others.

    It has no effect once JAX has looked for devices. A larger JAX_NUM_CPU_DEVICES is kept.
    """
    # On a machine with a GPU, JAX would otherwise see only the GPU.
    jax.config.update("jax_platforms", "cpu")
    if jax.config.jax_num_cpu_devices < count:
        jax.config.update("jax_num_cpu_devices", count)


def release_devices() -> None:
    """Releases the devices that JAX has opened in this process, so that others can use them."""
    # Counting the devices opens them, and JAX holds a GPU's memory until its backend is gone.
    clear_backends()
