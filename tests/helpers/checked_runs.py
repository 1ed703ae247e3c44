"""The checks before a run, with what main accepts and refuses in this process."""

import pytest
from commands import TOP

from alexnet_jax.cli import checks, command
from alexnet_jax.errors import UserError
from alexnet_jax.main import define_flags
from configs import base

BASE = f"--config={TOP / 'configs' / 'base.py'}"
IMAGENET = f"--config={TOP / 'configs' / 'imagenet.py'}"
RUN = "--workdir=run"


def checked(*arguments):
    """Returns what main checks before anything else."""
    return checks.check(command.parse(["main", *arguments], define_flags, with_config=True))


def refused(*arguments):
    """Returns the message with which main refuses these arguments."""
    with pytest.raises(UserError) as error:
        checked(*arguments)
    return str(error.value)


def config_of(**changes):
    """Returns base.py's resolved config with settings changed, such as optim__learning_rate."""
    config = base.get_config()
    config.model.num_classes = 10
    with config.ignore_type():
        config.update_from_flattened_dict({k.replace("__", "."): x for k, x in changes.items()})
    return config


SCALE, MEAN = (0.017, 0.018, 0.019), (123.0, 116.0, 103.0)
