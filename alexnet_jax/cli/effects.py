"""Lines for the user on settings that have no effect, or another one than their name says."""

from ml_collections import ConfigDict

from alexnet_jax.cli import rules
from alexnet_jax.cli.restore_checks import Overrides
from alexnet_jax.data import Summary
from alexnet_jax.data.pipeline import steps_per_epoch


def without_effect(config: ConfigDict, given: Overrides) -> list[str]:
    """Returns a line for each setting of the command line that nothing reads in this config."""
    unread = rules.unread(config)
    return [f"{key} has no effect with {unread[key]}" for key in unread if key in given]


def long_warmup(config: ConfigDict, found: Summary) -> list[str]:
    """Returns a line if the warm-up is longer than the training, otherwise []."""
    epoch = steps_per_epoch(found.sizes["train"], config.data.batch_size)
    epochs = config.train.steps / epoch if config.train.steps else config.train.epochs
    if config.optim.warmup_epochs <= epochs:
        return []
    return [
        f"optim.warmup_epochs={config.optim.warmup_epochs:g} is longer than the training of "
        f"{epochs:g} epochs: the rate does not reach optim.learning_rate"
    ]


def equal_views(config: ConfigDict) -> list[str]:
    """Returns a line if the corner crops and the centre crop of an image are the same."""
    if config.eval.views == 1 or config.data.crop_size < config.data.image_size:
        return []
    return [
        "eval.views=10: the crop is as large as the images, so the ten views are two, the image "
        "and its mirror image"
    ]
