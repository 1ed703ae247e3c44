"""Workdirs that several tests need: one net that is really trained, and converted ones."""

import commands
import pytest
from conversions import CASES, convert_to

# An epoch of digits takes cuda-convnet's small net from 90 % error to about 50 %.
TRAINED = (
    "--config=configs/base.py",
    "--config.model.name=cuda_convnet_18pct",
    "--config.model.width=0.25",
    "--config.data.image_size=34",
    "--config.data.crop_size=32",
    "--config.train.epochs=1",
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The workdir of a short run, trained and evaluated."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    commands.run("main", *TRAINED, f"--workdir={workdir}")
    commands.run("main", *TRAINED, f"--workdir={workdir}", "--mode=eval")
    return workdir


@pytest.fixture(scope="session")
def workdirs(tmp_path_factory):
    """The workdirs of conversions.CASES, converted."""
    top = tmp_path_factory.mktemp("converted")
    return {name: convert_to(top / name, *case) for name, case in CASES.items()}
