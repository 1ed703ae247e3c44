"""The command `prepare` in the test's own process."""

import numpy as np
import pytest

from alexnet_jax.cli import command
from alexnet_jax.data import pipeline, store
from alexnet_jax.errors import UserError
from alexnet_jax.prepare import __main__ as prepare


def run(*arguments):
    """Runs the command; returns its exit code."""
    values = command.parse(["prepare", *map(str, arguments)], prepare.define_flags)
    return prepare.main(values)


def printed(capsys):
    """Returns what was printed, with the lines that were wrapped for the terminal joined again."""
    return capsys.readouterr().out.replace("\n  ", " ")


def refused(message, *arguments):
    """Insists that the command refuses with one line that matches the message."""
    with pytest.raises(UserError, match=message) as error:
        run(*arguments)
    assert "\n" not in str(error.value)


def stored(directory, split):
    """Returns all images uint8 [N, S, S, 3] and labels int32 [N] of a split of a store."""
    opened = store.open_store(directory).splits[split]
    (batch,) = pipeline.evaluation_batches(opened, len(opened), device_bytes=10**9)
    return np.asarray(batch["image"]), batch["label"]
