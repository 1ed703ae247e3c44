"""Recorded numbers of the quickstart's first steps: a mere move of code leaves them as they are."""

import jax
import numpy as np
import pytest
from devices import prepared

from configs import base

STEPS = 3
# Losses, gradient norms and checksum of the parameters, of configs/base.py with and without random
# numbers. If only the first changes, the random stream has changed and the net has not.
GOLDEN = {
    "quickstart": (
        (2.364706039428711, 2.5813403129577637, 2.450575113296509),
        (5.673919677734375, 6.584569454193115, 5.332139015197754),
        98.80370702093899,
    ),
    "no random numbers": (
        (2.726154327392578, 3.2723309993743896, 3.444981575012207),
        (13.727998733520508, 21.40061378479004, 19.114391326904297),
        99.04863789038315,
    ),
}
FIRST, *OTHERS = GOLDEN
ADVICE = (
    "The first steps of configs/base.py give other numbers than before. If that is not meant, the "
    "last change altered what is computed. If it is (another random stream, net or recipe), put "
    "these values into GOLDEN and run results/digits again:\n{found}"
)


def checksum(params):
    """Returns the dot product of all parameters with fixed random numbers, in float64."""
    rng = np.random.default_rng(0)
    leaves = jax.tree.leaves(jax.device_get(params))
    return float(sum(np.vdot(rng.normal(size=x.shape), x.astype(np.float64)) for x in leaves))


# In the short form the first alone: it computes all that the others do.
@pytest.mark.parametrize(
    "name", [FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_first_steps_give_the_recorded_numbers(name):
    config = base.get_config()
    config.model.num_classes = 10
    if name == "no random numbers":
        config.model.dropout, config.data.augment.crop = 0.0, False
    step, state, batches = prepared(config)
    losses, norms = [], []
    for _ in range(STEPS):
        state, scalars = step(state, next(batches))
        losses.append(float(scalars["loss"]))
        norms.append(float(scalars["grad_norm"]))
    found = (tuple(losses), tuple(norms), checksum(state.params))
    advice = ADVICE.format(found=found)
    for ours, golden in zip(found, GOLDEN[name], strict=True):
        np.testing.assert_allclose(ours, golden, rtol=1e-4, err_msg=advice)
