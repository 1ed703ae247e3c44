"""A state that no longer consists of numbers is never saved."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from commands import SMALL, error_line, lines, run
from kills import whole_state

from alexnet_jax.errors import UserError
from alexnet_jax.runs import workdir
from alexnet_jax.runs.finite import check_state


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_is_enough(bad):
    good = {"kernel": jnp.ones((3, 4)), "count": jnp.int32(3)}
    check_state(7, (good, good))
    with pytest.raises(UserError, match=r"after step 7, which is not saved.*learning_rate"):
        check_state(7, (good, {**good, "kernel": good["kernel"].at[2, 3].set(bad)}))


@pytest.mark.slow
def test_every_checkpoint_of_a_run_that_diverges_is_finite(tmp_path):
    """Saved after every step: the loss of a step is that of the parameters before it."""
    arguments = (*SMALL, "--config.checkpoint.every_steps=1", "--config.checkpoint.keep=100")
    done = run(
        "main", *arguments, "--config.optim.learning_rate=1e4", "--config.train.steps=60",
        f"--workdir={tmp_path}", code=2,
    )  # fmt: skip
    line = error_line(done)
    found = re.search(r"(?:at|after) step (\d+)", line)
    assert found and "optim.learning_rate" in line and "--workdir" in line
    steps = workdir.steps(tmp_path)
    assert steps and steps == list(range(1, int(found[1])))
    for array in whole_state(tmp_path).values():
        if array.dtype.kind == "f" and array.ndim:
            assert np.isfinite(array).all()
    assert [x["step"] for x in lines(tmp_path) if "train/loss" in x][: len(steps)] == steps


@pytest.mark.slow
def test_parameters_that_overflow_while_the_loss_is_finite(tmp_path):
    """A first step with a huge rate: its loss and gradient are those of the initial parameters."""
    done = run(
        "main", *SMALL, "--config.checkpoint.every_steps=1",
        "--config.optim.learning_rate=3e38", f"--workdir={tmp_path}", code=2,
    )  # fmt: skip
    assert "after step 1," in error_line(done)
    assert not workdir.steps(tmp_path)
