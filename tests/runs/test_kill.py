"""SIGKILL at any moment: the run that goes on is the run that was not interrupted.

The short form; test_soak.py has the long one.
"""

import pytest
from commands import SMALL, run
from kills import assert_same_run, kill_repeatedly

ARGUMENTS = (*SMALL, "--config.train.steps=45", "--config.checkpoint.every_steps=4")


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_is_the_same_run(tmp_path):
    """Dropout, crops, flips and colour noise on; parameters, velocities and all metrics."""
    run("main", *ARGUMENTS, f"--workdir={tmp_path / 'whole'}")
    moments = ["save", "start", "evaluation", "save", "step"]
    kills = kill_repeatedly(ARGUMENTS, tmp_path / "killed", moments, seed=1)
    assert len(kills) == len(moments)
    assert any(kill.unfinished for kill in kills if kill.moment == "save")
    run("main", *ARGUMENTS, f"--workdir={tmp_path / 'killed'}")
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
