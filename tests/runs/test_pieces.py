"""A run in pieces is the run in one piece, though each piece ends with a validation of its own."""

import pytest
from commands import lines, run
from kills import whole_state

# Nine steps an epoch, a validation every two epochs; at rate 0 its error never falls.
PLATEAU = (
    "--config=configs/base.py", "--config.model.name=four_layer", "--config.data.image_size=32",
    "--config.data.crop_size=32", "--config.data.batch_size=160",
    "--config.optim.learning_rate=0.0",
    "--config.optim.plateau_patience=1", "--config.eval.every_epochs=2",
)  # fmt: skip


def validations(directory):
    return [line["step"] for line in lines(directory) if "val/loss" in line]


@pytest.mark.slow
def test_the_end_of_a_piece_is_no_evaluation_of_the_plateau_schedule(tmp_path):
    """Neither inside an epoch, step 4, nor after an odd one, step 27."""
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    run("main", *PLATEAU, "--config.train.steps=45", f"--workdir={whole}")
    for steps in (4, 27, 45):
        run("main", *PLATEAU, f"--config.train.steps={steps}", f"--workdir={pieces}")
    assert validations(whole) == [18, 36, 45]
    assert validations(pieces) == [4, 18, 27, 36, 45]
    one, other = whole_state(whole), whole_state(pieces)
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].tobytes() == other[name].tobytes(), name
    (scale,) = (one[name] for name in one if "plateau" in name and "'scale'" in name)
    assert scale == pytest.approx(0.1)  # 18 set the best error, 36 did not lower it
