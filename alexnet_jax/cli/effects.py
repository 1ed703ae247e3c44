"""Lines for the user on settings that have no effect, or another one than their name says."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from alexnet_jax.cli.restore_checks import Overrides
from alexnet_jax.data import Summary, summary
from alexnet_jax.data.catalogue import EMBEDDED
from alexnet_jax.data.pipeline import steps_per_epoch
from alexnet_jax.nets.spec import Dropout, Norm, Pool
from alexnet_jax.nets.variants import weighted_layers
from alexnet_jax.nets.zoo import NETS
from alexnet_jax.runs import rules

# Settings whose rows end in (epoch, value).
LISTED = ("optim.listed", "optim.listed_layers", "data.augment.colour_listed")


def without_effect(config: ConfigDict, given: Overrides) -> list[str]:
    """Returns a line for each setting of the command line that nothing reads in this config."""
    return _lines(rules.unread(config) | unread_by_net(config), given)


def without_effect_on(data: ConfigDict, given: Overrides) -> list[str]:
    """Returns a line for each setting of the command line that these images leave without effect.

    The data must be available.
    """
    return _lines(unread_with_data(data), given)


def _lines(unread: Mapping[str, str], given: Overrides) -> list[str]:
    return [f"{key} has no effect with {unread[key]}" for key in unread if key in given]


def unread_by_net(config: ConfigDict) -> dict[str, str]:
    """Returns each setting that the net of config.model does not read, with the reason."""
    model, published = config.model, NETS[config.model.name]
    name = f"model.name={model.name!r}"
    # Published layers: of the net itself, model.lrn=False has left the norms out already.
    layers = [x for x in published.layers if getattr(x, "name", "") not in model.without]
    kinds = {
        "model.lrn": (Norm, "response normalisation"),
        "model.pool_size": (Pool, "pooling"),
        "model.dropout": (Dropout, "dropout"),
    }
    unread = {
        key: f"{name}: the net has no {word}"
        for key, (kind, word) in kinds.items()
        if not any(isinstance(layer, kind) for layer in layers)
    }
    if (model.towers or published.towers) == 1:
        unread["model.exchange"] = "one tower"
    # Of a net that starts from a checkpoint, only the classifier may be drawn.
    if config.init_from and published.layers[-1].name not in [row[0] for row in model.initial]:
        unread["model.initial"] = f"init_from={config.init_from}, which brings the weights"
    # The nets for CIFAR-10 have a decay of their own in each layer.
    if all(layer.weight_decay is not None for layer in weighted_layers(published).values()):
        unread["optim.weight_decay"] = f"{name}: each of its layers has its own"
    return unread


def unread_with_data(data: ConfigDict) -> dict[str, str]:
    """Returns each setting that these images leave without effect, with the reason."""
    unread = {}
    if data.name in EMBEDDED:
        unread["data.dir"] = f"data.name={data.name!r}, which has no store"
    if data.crop_size == data.image_size:
        unread["data.augment.crop"] = f"data.crop_size={data.crop_size}, as large as the images"
    if "val" in summary(ConfigDict({**data, "val_fraction": 0.0})).sizes:
        unread["data.val_fraction"] = "these data: they have a validation split"
    return unread


def epochs_of(config: ConfigDict, found: Summary) -> float:
    """Returns the number of epochs that the config trains."""
    epoch = steps_per_epoch(found.sizes["train"], config.data.batch_size)
    return config.train.steps / epoch if config.train.steps else config.train.epochs


def long_warmup(config: ConfigDict, found: Summary) -> list[str]:
    """Returns a line if the warm-up is longer than the training, otherwise []."""
    epochs = epochs_of(config, found)
    if config.optim.warmup_epochs <= epochs:
        return []
    return [
        f"optim.warmup_epochs={config.optim.warmup_epochs:g} is longer than the training of "
        f"{epochs:g} epochs: the rate does not reach optim.learning_rate"
    ]


def late_changes(config: ConfigDict, found: Summary) -> list[str]:
    """Returns a line for each setting whose list names epochs that the training does not reach."""
    epochs, settings = epochs_of(config, found), dict(rules.flat(config))
    unread, lines = rules.unread(config), []
    for key in LISTED:
        # The epoch is the last but one, with or without a layer in front of it.
        late = [epoch for *_, epoch, _ in settings[key] if epoch >= epochs]
        if late and key not in unread:
            lines.append(
                f"{key}: the training of {epochs:g} epochs ends before the change at epoch "
                f"{min(late):g}"
            )
    return lines


def equal_views(config: ConfigDict) -> list[str]:
    """Returns a line if the corner crops and the centre crop of an image are the same."""
    if config.eval.views == 1 or config.data.crop_size < config.data.image_size:
        return []
    return [
        "eval.views=10: the crop is as large as the images, so the ten views are two, the image "
        "and its mirror image"
    ]
