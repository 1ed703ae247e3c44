"""The checks of a config against the checkpoint that is resumed, started from or evaluated.

A checkpoint brings its net and the normalisation of its input, without which its parameters mean
nothing. A command line that contradicts them is refused; a config file is overruled.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.data import Summary
from alexnet_jax.errors import UserError
from alexnet_jax.nets.shapes import array_shapes
from alexnet_jax.nets.spec import Exchange, Learned, Net
from alexnet_jax.nets.variants import resolve
from alexnet_jax.runs import rules
from alexnet_jax.runs.workdir import check_restorable, locate, read_config, steps
from alexnet_jax.weights.hub import is_hub

Overrides = Mapping[str, object]  # the settings that the command line changes, by key

# The settings that a resumed run may change, because they change nothing that is computed: where
# the data lies, how far the run goes, what it reports, on which devices.
MAY_CHANGE = (
    "init_from",  # read at step 0 only
    "data.dir",
    "data.device_megabytes",
    "data.on_bad_record",
    "train.epochs",
    "train.steps",
    "train.accumulate_steps",
    "train.log_every_steps",
    "train.stop_at_train_error",
    "eval.",
    "checkpoint.",
    "parallel.",
)
# Settings of MAY_CHANGE that decide the learning rate of a schedule: with it they may not change.
SCHEDULE_DEPENDS_ON = {
    "linear": ("train.epochs", "train.steps"),
    "cosine": ("train.epochs", "train.steps"),
    "dexp": ("train.epochs", "train.steps"),
    "plateau": ("eval.every_epochs", "eval.views"),
}
INPUT = ("data.input_mean", "data.input_scale")
NET = ("model.", "data.crop_size", *INPUT)  # a checkpoint brings these
# It brings these too to an evaluation on its own data set: they decide which images were held out.
DATA = (
    "data.image_size",
    "data.val_fraction",
    "data.synthetic_images",
    "data.synthetic_classes",
)
# The attributes of a layer with parameters that a trained net does not depend on.
TRAINING_ONLY = ("std", "bias", "rate", "weight_decay", "decay")


def check_resume(config: ConfigDict, workdir: Path, given: Overrides) -> list[str]:
    """Compares the config with that of the run in the workdir.

    A setting may change if it changes nothing that is computed: MAY_CHANGE, less those that the
    learning rate depends on. `init_from`, and what it brought, stay as they were.

    Returns:
      A line for the user if the command line names another init_from, which is not read.

    Raises:
      UserError: another setting has changed.
    """
    old = read_config(workdir)
    if old.init_from:
        # The run began with the net of that checkpoint, which the config file does not name.
        _bring(config, old, _net_keys(old), given)
    # Read at step 0 only: the folder may have moved, and the record keeps its name.
    config.init_from = old.init_from
    changed = fixed_changes(old, config)
    if changed:
        raise UserError(
            f"workdir {workdir} holds the run of another config ({'; '.join(changed[:3])}); undo "
            f"that, or give another --workdir with --config.init_from={workdir}, which starts a "
            "new run from its parameters"
        )
    named = str(given.get("init_from") or "")
    if not named or (old.init_from and Path(named) == Path(old.init_from)):
        return []
    begun = f"from {old.init_from}" if old.init_from else "without it"
    return [f"init_from={named} is not read: the run in {workdir} has begun {begun}"]


def fixed_changes(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Returns the changed settings that a resumed run may not change, as `key: old → new`.

    A setting that neither config reads, such as another schedule's, may change.
    """
    fixed = SCHEDULE_DEPENDS_ON.get(new.optim.schedule, ())
    unread = rules.unread(old).keys() & rules.unread(new).keys()
    return [
        text
        for text in rules.differences(old, new)
        if not text.startswith(MAY_CHANGE) or text.startswith(fixed)
        if text.partition(":")[0] not in unread
    ]


def check_init_from(config: ConfigDict, given: Overrides) -> list[str]:
    """Sets the net and the input in config to those of the checkpoint that config.init_from names.

    Parameters mean the same only in the same net, with the same input scale and mean. The number of
    classes stays that of the data. The command line may change the net, for example its dropout.

    Returns:
      Lines for the user on what was taken over and what else differs.

    Raises:
      UserError: there is no such checkpoint, its parameters do not fit the net, or the command line
        contradicts its input.
    """
    path = Path(config.init_from)
    _check_no_exported_folder(path)
    if not steps(locate(path)[0]):
        raise UserError(
            f"init_from: no checkpoint in {path}; name the workdir of a run, or make one of other "
            f"weights with `python -m alexnet_jax.convert --from=FILE --layout=torchvision "
            f"--workdir={path}`"
        )
    check_restorable(path)
    old = read_config(path)
    _check_not_contradicted(path, old, INPUT, given)
    brought = _bring(config, old, _net_keys(old), given)
    _check_same_sizes(path, old, config, given)
    theirs, ours = (resolve(x.model, x.data.crop_size) for x in (old, config))
    differ = net_differences(theirs, ours)
    more = f" and {len(differ) - 4} more" if len(differ) > 4 else ""
    lines = [f"init_from {path}: {key} is the checkpoint's, {value!r}" for key, value in brought]
    if old.data.image_size != config.data.image_size:
        lines.append(
            f"init_from {path} was trained on pictures of {old.data.image_size} pixels, these have "
            f"{config.data.image_size}: its crop shows things at another scale; to keep the scale, "
            f"prepare with --image_size={old.data.image_size}"
        )
    if differ:
        net = f"{old.model.name} → {config.model.name}"
        lines.append(f"init_from {path} is of another net: {net} ({'; '.join(differ[:4])}{more})")
    return lines


def _check_no_exported_folder(path: Path) -> None:
    """Raises UserError for a folder that export wrote: runs train and evaluate workdirs."""
    if is_hub(path):
        raise UserError(
            f"{path} is an exported folder; make a workdir of it with `python -m "
            f"alexnet_jax.convert --from={path} --workdir=runs/{path.absolute().name}`"
        )


def _check_same_sizes(path: Path, old: ConfigDict, config: ConfigDict, given: Overrides) -> None:
    """Raises UserError unless a checkpoint's parameters have the sizes of the config's net."""
    # A classifier for other classes is drawn anew, so its size may differ.
    model = ConfigDict({**config.model, "num_classes": old.model.num_classes})
    theirs = array_shapes(resolve(old.model, old.data.crop_size))
    ours = array_shapes(resolve(model, config.data.crop_size))
    for name in {**theirs, **ours}:
        if theirs.get(name) != ours.get(name):
            changes = ", ".join(key for key in given if key.startswith(NET))
            raise UserError(
                f"init_from {path}: its parameters do not fit this net ({'/'.join(name)} is "
                f"{theirs.get(name, 'missing')}, not {ours.get(name, 'missing')}); leave out the "
                f"override of {changes}"
            )


def _net_keys(config: ConfigDict) -> tuple[str, ...]:
    """Returns the keys that a checkpoint brings to another run: NET but for model.num_classes."""
    keys = (key for key, _ in rules.flat(config) if key.startswith(NET))
    return tuple(key for key in keys if key != "model.num_classes")


def net_differences(old: Net, new: Net) -> list[str]:
    """Returns the differences in what two nets compute, as `layer.attribute: old → new`.

    Initial weights, the settings of the update rule and the number of classes are left out.
    """
    before, after = dict(_attributes(old)), dict(_attributes(new))
    differ = [
        f"{key}: {before.get(key, 'missing')!r} → {after.get(key, 'missing')!r}"
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    ]
    if _order(old, new) != _order(new, old):  # layers of one net only are listed above
        differ.append("the order of the layers")
    return differ


def _order(net: Net, other: Net) -> list[str]:
    """Returns the layers that both nets have, in the order of the first."""
    names = [[x.name for x in both.layers if not isinstance(x, Exchange)] for both in (net, other)]
    return [name for name in names[0] if name in names[1]]


def _attributes(net: Net) -> Iterator[tuple[str, Any]]:
    """Yields the attributes that a trained net depends on, as (`conv1.stride`, 4)."""
    yield from (("crop", net.crop), ("towers", net.towers))
    exchanged = False
    for layer in net.layers:
        # An exchange has no name; it is reported as an attribute of the layer that reads it.
        if isinstance(layer, Exchange):
            exchanged = True
            continue
        yield f"{layer.name}.kind", type(layer).__name__
        yield f"{layer.name}.exchange", exchanged
        exchanged = False
        ignored = {"name", *(TRAINING_ONLY if isinstance(layer, Learned) else ())}
        if layer is net.layers[-1]:
            ignored.add("features")  # the number of classes, which is the data's
        for field in fields(layer):
            if field.name not in ignored:
                yield f"{layer.name}.{field.name}", getattr(layer, field.name)


def bring_to_evaluation(config: ConfigDict, paths: tuple[Path, ...], given: Overrides) -> None:
    """Sets net, input and validation split in config to those of the checkpoints to evaluate.

    The first checkpoint decides how the data are read.

    Args:
      config: of the evaluation; changed in place.
      paths: workdirs or workdir/checkpoints/STEP, at least one.
      given: the settings that the command line changes.

    Raises:
      UserError: a checkpoint that cannot be read, or that the command line contradicts.
    """
    for path in paths:
        _check_no_exported_folder(path)
        check_restorable(path)
    configs = [read_config(path) for path in paths]
    for path, own in zip(paths, configs, strict=True):
        keys = NET + DATA if own.data.name == config.data.name else NET
        _check_not_contradicted(path, own, keys, given)
    first = configs[0]
    same_data = first.data.name == config.data.name
    _bring(config, first, NET + DATA if same_data else NET, given)
    # A given folder stays: the store may have moved since the training.
    if same_data and not config.data.dir:
        config.data.dir = first.data.dir


def check_evaluated_data(path: Path, config: ConfigDict, found: Summary) -> None:
    """Raises UserError unless a checkpoint can be evaluated on a data set, by its sizes."""
    own = read_config(path)
    if own.model.num_classes != found.num_classes:
        raise UserError(
            f"checkpoint {path} has {own.model.num_classes} classes, but {config.data.name} "
            f"has {found.num_classes}; give the data set that it was trained on"
        )
    if own.data.name == config.data.name and own.data.image_size != found.image_size:
        raise UserError(
            f"checkpoint {path} was trained on images of {own.data.image_size} pixels, but "
            f"{config.data.name} has {found.image_size}; give data.dir with images of its size"
        )
    if own.data.crop_size > found.image_size:
        raise UserError(
            f"checkpoint {path} takes {own.data.crop_size} pixels, more than the stored "
            f"{found.image_size}; prepare larger images"
        )


def _check_not_contradicted(
    path: Path, own: ConfigDict, keys: tuple[str, ...], given: Overrides
) -> None:
    theirs = dict(rules.flat(own))
    for key, value in given.items():
        if key.startswith(keys) and key in theirs and theirs[key] != value:
            raise UserError(
                f"checkpoint {path} was trained with {key}={theirs[key]!r}, not {value!r}; leave "
                "the override out"
            )


def _bring(
    config: ConfigDict, own: ConfigDict, keys: tuple[str, ...], given: Overrides
) -> list[tuple[str, Any]]:
    """Sets the settings that begin with `keys` to a checkpoint's; returns (key, value) of changes.

    A setting that the command line gives stays: it was checked before, or is refused later.
    """
    ours, changed = dict(rules.flat(config)), []
    for key, value in rules.flat(own):
        if key.startswith(keys) and key not in given and ours.get(key) != value:
            changed.append((key, value))
    # An unset value has no type, so a tuple in its place would be refused.
    with config.ignore_type():
        config.update_from_flattened_dict(dict(changed))
    return changed
