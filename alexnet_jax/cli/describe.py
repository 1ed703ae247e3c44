"""The description of a run: its net's story and layers, and its resolved config."""

from ml_collections import ConfigDict

from alexnet_jax.cli import rules
from alexnet_jax.cli.tables import text_table
from alexnet_jax.nets.shapes import layer_table
from alexnet_jax.nets.variants import resolve


def describe(config: ConfigDict) -> str:
    """Returns the net's story, the table of its layers, and every setting on a line."""
    net = resolve(config.model, config.data.crop_size)
    story = f"{config.model.name}: {net.about} ({net.source})"
    settings = "\n".join(f"{key} = {value!r}" for key, value in rules.flat(config))
    return "\n\n".join((story, text_table(layer_table(net), left=5), settings))
