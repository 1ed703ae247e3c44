"""Whether a state still consists of numbers: asked before it is saved."""

from typing import Any

import jax
import jax.numpy as jnp

from alexnet_jax.errors import UserError


@jax.jit
def all_finite(tree: Any) -> jax.Array:
    """True if no array of the tree holds a NaN or an infinity."""
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


def check_finite(step: int, tree: Any) -> None:
    """Raises UserError unless parameters and velocities are numbers.

    A step can have a finite loss and gradient and still leave a state that has none any more.
    """
    if not all_finite(tree):
        raise UserError(
            f"parameters or velocities are NaN or infinite after step {step}, which is not saved; "
            "earlier checkpoints are kept; try a lower optim.learning_rate in another --workdir "
            "(init_from takes a checkpoint)"
        )
