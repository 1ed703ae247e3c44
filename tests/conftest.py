"""Eight CPU devices in the tests' own process; the commands that they start have one."""

import jax

jax.config.update("jax_num_cpu_devices", 8)
