"""The description of a run for a terminal of 80 columns: its net and its resolved config."""

import textwrap

from ml_collections import ConfigDict

from alexnet_jax.cli.tables import text_table
from alexnet_jax.nets.shapes import layer_table
from alexnet_jax.nets.variants import resolve
from alexnet_jax.runs import rules

WIDTH = 80  # characters
SHORT = {"a tower has": "a tower", "multiply-adds": "mult-adds"}


def describe(config: ConfigDict) -> str:
    """Returns the net's story and source, the table of its layers, and every setting on a line."""
    net = resolve(config.model, config.data.crop_size)
    story = textwrap.fill(f"{config.model.name}: {net.about} ({net.source})", WIDTH)
    # "48 of 96" maps become "48/96", because the table would otherwise be too wide.
    rows = [[SHORT.get(x, x).replace(" of ", "/") for x in row] for row in layer_table(net)]
    settings = "\n".join(f"{key} = {value!r}" for key, value in rules.flat(config))
    return "\n\n".join((story, text_table(rows, left=5), settings))
