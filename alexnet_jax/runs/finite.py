"""The checks that a step and the state after it consist of finite numbers."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from alexnet_jax.errors import UserError

# Words of every message about a training that diverged; launch/evidence.py looks for them.
ADVICE = "try a lower optim.learning_rate"


def check_step(values: Mapping[str, float], step: int, steps_per_epoch: int) -> None:
    """Raises UserError if the loss or the gradient norm of a step is NaN or infinite.

    Args:
      values: metrics of the step by name, with loss, grad_norm and learning_rate.
      step: number of the step, from 1.
      steps_per_epoch: number of batches.
    """
    for name in ("loss", "grad_norm"):
        if not math.isfinite(values[name]):
            # Steps count from 1, epochs and batches from 0.
            epoch, batch = divmod(step - 1, steps_per_epoch)
            raise UserError(
                f"{name} is {values[name]} at step {step} (epoch {epoch}, batch {batch}); earlier "
                f"checkpoints are kept; {ADVICE} than {values['learning_rate']:g} in another "
                "--workdir (init_from takes a checkpoint)"
            )


@jax.jit
def all_finite(tree: Any) -> jax.Array:
    """True if no array of the tree holds a NaN or an infinity."""
    # Reduced on the device: a single bool is fetched, whatever the size of the state.
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


def check_state(step: int, tree: Any) -> None:
    """Raises UserError unless all parameters and velocities in the tree are finite.

    They can be infinite after a step whose loss and gradient were finite.
    """
    if not all_finite(tree):
        raise UserError(
            f"parameters or velocities are NaN or infinite after step {step}, which is not saved; "
            f"earlier checkpoints are kept; {ADVICE} in another --workdir (init_from takes a "
            "checkpoint)"
        )
