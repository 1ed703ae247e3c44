"""Lines for the user on settings that have no effect, or another one than their name says."""

from ml_collections import ConfigDict

from alexnet_jax.cli import rules
from alexnet_jax.cli.restore_checks import Overrides
from alexnet_jax.data import Summary
from alexnet_jax.data.pipeline import steps_per_epoch

# (a setting, its values): the settings that are read only if the first one has one of the values.
READ_WITH = {
    ("optim.schedule", ("listed",)): ("optim.listed",),
    ("optim.schedule", ("plateau",)): (
        "optim.plateau_factor",
        "optim.plateau_patience",
        "optim.plateau_drops",
    ),
    ("optim.schedule", ("dexp",)): ("optim.dexp_target", "optim.dexp_steps"),
    ("optim.name", ("lars",)): ("optim.trust_coefficient",),
    ("data.augment.colour", ("paper", "code")): (
        "data.augment.colour_scale",
        "data.augment.colour_listed",
    ),
    ("data.name", ("synthetic",)): ("data.synthetic_images", "data.synthetic_classes"),
    ("train.steps", (0,)): ("train.epochs",),
}


def without_effect(config: ConfigDict, given: Overrides) -> list[str]:
    """Returns a line for each setting of the command line that nothing reads in this config."""
    settings = dict(rules.flat(config))
    return [
        f"{key} has no effect with {decides}={settings[decides]!r}"
        for (decides, values), keys in READ_WITH.items()
        for key in keys
        if key in given and settings[decides] not in values
    ]


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
