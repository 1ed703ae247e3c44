"""The description of a run for a terminal of 80 columns: its net and its resolved config."""

import textwrap

from ml_collections import ConfigDict

from alexnet_jax.cli import rules
from alexnet_jax.cli.tables import text_table
from alexnet_jax.nets.shapes import layer_table
from alexnet_jax.nets.variants import resolve


def describe(config: ConfigDict) -> str:
    """Returns the net's story and source, the table of its layers, and every setting on a line."""
    net = resolve(config.model, config.data.crop_size)
    story = textwrap.fill(f"{config.model.name}: {net.about} ({net.source})", 80)
    settings = "\n".join(f"{key} = {value!r}" for key, value in rules.flat(config))
    return "\n\n".join((story, text_table(layer_table(net), left=5), settings))
