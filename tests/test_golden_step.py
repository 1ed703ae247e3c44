"""The first steps of the quickstart in numbers: they tell moved code from a changed result."""

import jax
import numpy as np
from devices import prepared

from configs import base

STEPS = 3
LOSSES = (2.4508256912231445, 2.46627140045166, 2.339787721633911)
GRADIENT_NORMS = (5.679386615753174, 6.703356742858887, 5.341243743896484)
CHECKSUM = 99.07385925241398
ADVICE = (
    "The first steps of configs/base.py give other numbers than before. If that is not meant, the "
    "last change altered what is computed. If it is (another random stream, net or recipe), set "
    "LOSSES, GRADIENT_NORMS and CHECKSUM to the values below and run results/digits again:\n"
    "LOSSES = {losses}\nGRADIENT_NORMS = {norms}\nCHECKSUM = {checksum}"
)


def checksum(params: dict) -> float:
    """Returns the dot product of all parameters with fixed random numbers, in float64."""
    rng = np.random.default_rng(0)
    leaves = jax.tree.leaves(jax.device_get(params))
    return float(sum(np.vdot(rng.normal(size=x.shape), x.astype(np.float64)) for x in leaves))


def test_first_steps_give_the_recorded_numbers() -> None:
    config = base.get_config()
    config.model.num_classes = 10
    step, state, batches = prepared(config)
    losses, norms = [], []
    for _ in range(STEPS):
        state, scalars = step(state, *next(batches))
        losses.append(float(scalars["loss"]))
        norms.append(float(scalars["grad_norm"]))
    found = checksum(state.params)
    advice = ADVICE.format(losses=tuple(losses), norms=tuple(norms), checksum=found)
    np.testing.assert_allclose(losses, LOSSES, rtol=1e-5, err_msg=advice)
    np.testing.assert_allclose(norms, GRADIENT_NORMS, rtol=1e-4, err_msg=advice)
    np.testing.assert_allclose(found, CHECKSUM, rtol=1e-5, err_msg=advice)
