"""The exponential moving average of the parameters."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax


def moving_average(decay: float, params: Any, average: Any, step: jax.Array) -> Any:
    """Returns the exponentially weighted average of the parameters after each step so far.

    The parameters after step i of t weigh decay^(t − i), divided by the sum of these weights. The
    initial parameters have no weight. This is optax.ema with its bias removed, kept in one array
    per parameter: a ← a + (w − a) · (1 − decay) ÷ (1 − decay^t).

    Args:
      decay: from 0 to 1; 0 = there is no average.
      params: w, after step t.
      average: a, after step t − 1.
      step: int32, t − 1.

    Returns:
      The new a, a tree like params; None if decay is 0.
    """
    if not decay:
        return None
    # expm1 keeps the digits of 1 − decay^t, which is small at first.
    weights = -jnp.expm1((step + 1) * math.log(decay))
    # At step 1 the factor is 1: the average forgets the initial parameters.
    return optax.incremental_update(params, average, (1 - decay) / weights)
