"""The config of an evaluation against that of the checkpoints that it reads."""

import json
from pathlib import Path

import pytest
from checked_runs import BASE, SCALE, checked, config_of
from commands import SMALL, run
from saved_runs import save_run
from stores import write_store

from alexnet_jax.errors import UserError
from alexnet_jax.runs import rules


def evaluated(*arguments):
    return checked(BASE, "--mode=eval", "--workdir=run", *arguments)


def test_a_checkpoint_brings_its_net_its_input_and_its_validation_split():
    """base.py, which the command names, has other values."""
    own = config_of(
        data__val_fraction=0.25,
        data__image_size=100,
        data__crop_size=90,
        data__input_scale=SCALE,
        model__width=0.125,
    )
    save_run(Path("run"), own)
    found = evaluated("--config.eval.split=val").config
    for key, value in rules.flat(own):
        if key.startswith(("model.", "data.")):
            assert dict(rules.flat(found))[key] == value, key
    assert found.eval.split == "val"


@pytest.mark.parametrize(
    ("key", "own", "given"),
    [
        ("data.val_fraction", 0.1, 0.5),
        ("data.val_fraction", 0.0, 0.1),
        ("data.image_size", 72, 100),
        ("data.crop_size", 64, 60),
        ("data.input_scale", (1.0, 1.0, 1.0), SCALE),
        ("model.width", 0.25, 0.5),
        ("model.dropout", None, 0.0),
    ],
)
def test_the_command_line_may_not_contradict_an_evaluated_checkpoint(key, own, given):
    save_run(Path("run"), config_of(optim__schedule="constant", **{key.replace(".", "__"): own}))
    with pytest.raises(UserError) as error:
        evaluated(f"--config.{key}={given}")
    assert f"was trained with {key}={own!r}, not {given!r}; leave the override" in str(error.value)


def test_each_member_of_an_ensemble_is_compared():
    save_run(Path("run"), config_of())
    save_run(Path("wider"), config_of(model__width=0.5))
    with pytest.raises(UserError, match=r"checkpoint wider was trained with model\.width=0\.5"):
        evaluated("--checkpoint=run,wider", "--config.model.width=0.25")


def test_the_result_of_a_checkpoint_is_not_written_into_another_run():
    """The report and the model card of that run would show it as its own."""
    for name in ("run", "other", "third"):
        save_run(Path(name), config_of())
    with pytest.raises(UserError, match=r"run holds another run than other, and eval\.json"):
        evaluated("--checkpoint=other")
    with pytest.raises(UserError, match="workdir run holds another run than other"):
        evaluated("--checkpoint=other,third")
    assert evaluated("--checkpoint=other,run").workdir == Path("run")
    assert checked(BASE, "--mode=eval", "--checkpoint=other").workdir == Path("other")
    assert checked(BASE, "--mode=eval", "--checkpoint=other", "--workdir=new").workdir == Path(
        "new"
    )


def test_other_data_may_have_another_size_and_validation_split():
    """A net of the digits on a store of other images: their size is the store's."""
    save_run(Path("run"), config_of(model__num_classes=3))
    write_store(Path("own"), {"train": 6, "val": 3, "test": 3}, side=80)
    run = evaluated(
        "--config.data.name=folder", "--config.data.dir=own", "--config.data.image_size=80"
    )
    assert run.config.data.image_size == 80 and run.split == "test"


def test_a_checkpoint_brings_the_folder_of_its_data():
    write_store(Path("own"), {"train": 6, "val": 3, "test": 3}, side=72)
    own = config_of(model__num_classes=3, data__name="folder", data__dir="own")
    save_run(Path("run"), own)
    assert evaluated("--config.data.name=folder").config.data.dir == "own"


def test_a_store_of_another_size_is_not_what_the_checkpoint_was_trained_on():
    write_store(Path("small"), {"train": 6, "val": 3}, side=72)
    save_run(Path("run"), config_of(model__num_classes=3, data__name="folder", data__image_size=90))
    with pytest.raises(UserError, match="was trained on images of 90 pixels, but folder has 72"):
        evaluated("--config.data.name=folder", "--config.data.dir=small")


def test_a_checkpoint_of_another_number_of_classes_is_refused():
    save_run(Path("run"), config_of(model__num_classes=7))
    with pytest.raises(UserError, match="has 7 classes, but digits has 10"):
        evaluated()


@pytest.mark.slow
def test_an_evaluation_replaces_the_probabilities_of_an_earlier_one(tmp_path):
    run("main", *SMALL, "--config.train.steps=1", f"--workdir={tmp_path}")
    file = tmp_path / "probabilities.npz"
    for views in (1, 10):
        evaluation = ("--mode=eval", f"--config.eval.views={views}", f"--probabilities={file}")
        run("main", f"--workdir={tmp_path}", *evaluation)
    assert json.loads((tmp_path / "eval.json").read_text())["test/views"] == 10


@pytest.mark.parametrize(
    "given",
    [
        "--probabilities=run/predictions.npz",
        "--submission=run/eval.json",
        "--submission=config.json",
    ],
)
def test_what_is_asked_for_does_not_overwrite_a_file_of_the_run(given):
    save_run(Path("run"), config_of())
    Path("config.json").symlink_to("run/config.json")
    name, _, file = given.partition("=")
    with pytest.raises(UserError, match=f"{name}={file} is a file of the run itself; give another"):
        evaluated(given)
