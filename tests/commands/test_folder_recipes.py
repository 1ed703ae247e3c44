"""docs/finetuning.md, command by command, on a small folder of pictures."""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from commands import TOP, run
from foreign_nets import STATE
from image_files import jpeg, plain, write_folder
from weight_files import pth

import alexnet_jax

PAGE = (TOP / "docs" / "finetuning.md").read_text()
COLOURS = {"blue": (30, 40, 180), "green": (40, 160, 50), "red": (190, 40, 30)}


def recipe(title):
    """Returns the commands of the page's section, as (module, arguments)."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    words = [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]
    assert all(x[:2] == ["python", "-m"] for x in words)
    return [(module.removeprefix("alexnet_jax."), x) for _, _, module, *x in words]


def pictures(count, seed):
    """Returns noisy pictures of each colour, as write_folder takes them."""
    rng = np.random.default_rng(seed)

    def one(colour):
        noisy = plain(300, 270, colour) + rng.normal(0, 40, (300, 270, 3))
        return jpeg(np.uint8(noisy.clip(0, 255)))

    return {
        name: {f"{i}.jpg": one(colour) for i in range(count)} for name, colour in COLOURS.items()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the user's photographs, torchvision's weights (in small) and the configs."""
    folder = tmp_path_factory.mktemp("user")
    write_folder(folder / "photos", {"train": pictures(11, 0), "test": pictures(4, 1)})
    (folder / "alexnet.pth").write_bytes(pth(STATE))
    (folder / "configs").symlink_to(TOP / "configs")
    return folder


def follow(folder, title, *settings):
    """Runs a recipe in the folder, its training with these settings; returns the last output."""
    for module, arguments in recipe(title):
        training = module == "main" and "--mode=eval" not in arguments
        arguments = [*arguments, *(settings if training else ())]
        done = run(module, *arguments, cwd=folder, env={"PYTHONPATH": str(TOP)})
        if training:
            print(done.stdout)
    return done.stdout


@pytest.mark.slow
def test_fine_tuning_ends_with_a_net_that_knows_the_new_classes(folder, capsys):
    """Smaller batches than the config's: more than one for an epoch of thirty pictures."""
    follow(folder, "Fine-tune a trained net", "--config.data.batch_size=10")
    said = capsys.readouterr().out
    assert "init_from runs/pretrained: model.name is the checkpoint's, 'one_weird_trick'" in said
    assert "fc8 is drawn anew, for 3 classes" in said
    result = json.loads((folder / "runs/photos/eval.json").read_text())
    assert result["test/examples"] == 12 and result["test/top1_error"] == 0
    with (folder / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert all(Path(row["path"]).parent.name == row["class_1"] for row in rows)
    _, tuned, config = alexnet_jax.load(folder / "runs/photos")
    _, first, _ = alexnet_jax.load(folder / "runs/pretrained")
    for key in ("mean", "scale"):
        np.testing.assert_array_equal(tuned["input"][key], first["input"][key])
    before, after = (x["params"]["conv1"]["kernel"] for x in (first, tuned))
    assert 0.9 < np.corrcoef(np.ravel(before), np.ravel(after))[0, 1] < 1
    assert config.model.width == 1 / 16


@pytest.mark.slow
def test_training_from_scratch_ends_with_a_net_that_can_predict(folder):
    """Two epochs of a narrow net: it learns little, but every command fits the one before."""
    small = ("--config.model.width=0.0625", "--config.train.epochs=2")
    table = follow(folder, "Train from scratch", *small)
    result = json.loads((folder / "runs/scratch/eval.json").read_text())
    assert result["test/examples"] == 12
    assert sum(name in table for name in COLOURS) >= 1 and "photos/test/red/0.jpg" in table
