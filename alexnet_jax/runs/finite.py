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
    """Raises UserError if the loss or the gradient of a step is not a finite number."""
    for name in ("loss", "grad_norm"):
        if not math.isfinite(values[name]):
            epoch, batch = divmod(step - 1, steps_per_epoch)
            raise UserError(
                f"{name} is {values[name]} at step {step} (epoch {epoch}, batch {batch}); earlier "
                f"checkpoints are kept; {ADVICE} than {values['learning_rate']:g} in another "
                "--workdir (init_from takes a checkpoint)"
            )


@jax.jit
def all_finite(tree: Any) -> jax.Array:
    """True if no array of the tree holds a NaN or an infinity."""
    # One number to fetch, whatever the size of the state.
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


def check_state(step: int, tree: Any) -> None:
    """Raises UserError unless parameters and velocities are finite.

    A step with a finite loss and gradient can still leave a state that is not.
    """
    if not all_finite(tree):
        raise UserError(
            f"parameters or velocities are NaN or infinite after step {step}, which is not saved; "
            f"earlier checkpoints are kept; {ADVICE} in another --workdir (init_from takes a "
            "checkpoint)"
        )
