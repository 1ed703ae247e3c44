"""The checks before a run: config, data, net, devices and workdir. Nothing is written."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from alexnet_jax import parallel
from alexnet_jax.cli import rules
from alexnet_jax.data import Summary, check_available, summary
from alexnet_jax.errors import UserError
from alexnet_jax.nets.placement import check_layout
from alexnet_jax.nets.variants import resolve, weighted_layers
from alexnet_jax.runs.workdir import (
    check_restorable,
    newest_good,
    read_config,
    steps,
    workdir_of,
)

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
# Unless the learning rate depends on them.
SCHEDULE_DEPENDS_ON = {
    "cosine": ("train.epochs", "train.steps"),
    "dexp": ("train.epochs", "train.steps"),
    "plateau": ("eval.every_epochs", "eval.views"),
}
# The settings that a checkpoint brings to an evaluation. The command line may not contradict them.
BROUGHT = (
    "model.",
    "data.crop_size",
    "data.image_size",
    "data.input_mean",
    "data.input_scale",
    "data.val_fraction",
)


@dataclass(frozen=True)
class Run:
    """A validated request.

    Attributes:
      config: resolved.
      workdir: of the run, or where the evaluation is written.
      checkpoints: to evaluate.
      split: to evaluate on.
    """

    config: ConfigDict
    workdir: Path
    checkpoints: tuple[Path, ...] = ()
    split: str = ""


def check(values: flags.FlagValues) -> Run:
    """Returns what main needs, from its flags.

    Raises:
      UserError: a wrong value, missing data, settings that contradict each other or the data, a
        workdir or checkpoint that cannot be used.
    """
    config, workdir = values.config, _workdir(values)
    rules.check(config)
    _check_flags_fit(values)
    if values.mode == "eval":
        return check_evaluation(values, workdir)
    if values.mode == "describe":
        check_model(config)
    else:
        check_run(config, workdir)
    return Run(config, workdir)


def check_model(config: ConfigDict) -> None:
    """Raises UserError unless the net can be built.

    No data are needed if model.num_classes is set. Otherwise it is filled in from the data.
    """
    if config.model.num_classes is None:
        check_available(config.data)
        fill_classes(config, summary(config.data).num_classes)
    check_net(config)


def check_run(config: ConfigDict, workdir: Path) -> None:
    """Raises UserError unless the config can be trained into the workdir; fills in num_classes."""
    check_available(config.data)
    found = summary(config.data)
    fill_classes(config, found.num_classes)
    check_net(config)
    check_parallel(config, ("data.batch_size", "eval.batch_size"))
    check_parts(config)
    check_training(config, found, workdir)


def _check_flags_fit(values: flags.FlagValues) -> None:
    for name in ("checkpoint", "probabilities", "submission"):
        if values[name].value and values.mode != "eval":
            raise UserError(f"--{name} is for --mode=eval, not --mode={values.mode}; leave it out")
    if parallel.is_distributed() and not values.workdir:
        raise UserError("several processes need --workdir: they share one")
    if values.mode == "eval" and not values.checkpoint and not values.workdir:
        raise UserError("--mode=eval needs something to restore; give --workdir or --checkpoint")


def overrides(values: flags.FlagValues) -> dict[str, object]:
    """Returns the settings that the command line changes, by key."""
    return config_flags.get_override_values(values["config"])


def fill_classes(config: ConfigDict, classes: int) -> None:
    """Sets model.num_classes; raises UserError if it was set to something else."""
    given = config.model.num_classes
    if given is not None and given != classes:
        raise UserError(
            f"model.num_classes={given}, but {config.data.name} has {classes} classes; give "
            f"--config.model.num_classes={classes}"
        )
    config.model.num_classes = classes


def check_net(config: ConfigDict) -> None:
    """Raises UserError unless the net can be built and the schedule names layers of it."""
    net = resolve(config.model, config.data.crop_size)
    names = weighted_layers(net)
    for name, *_ in config.optim.listed_layers:
        if name not in names:
            raise UserError(
                f"optim.listed_layers names {name!r}; layers with weights are {', '.join(names)}"
            )


def check_parallel(config: ConfigDict, sizes: Sequence[str]) -> None:
    """Raises UserError unless the net and these batch sizes fit config.parallel and the devices."""
    layout = parallel.layout_of(config.parallel)
    settings = dict(rules.flat(config))
    net = resolve(config.model, config.data.crop_size)
    check_layout(layout, net, {key: settings[key] for key in sizes})
    if layout.devices > 1:
        parallel.check_devices(layout)
    if layout.devices == 1 and parallel.is_distributed():
        raise UserError(
            "several processes, but parallel.data=1 and parallel.tower=1 use one device; raise "
            "parallel.data to the number of devices"
        )


def check_parts(config: ConfigDict) -> None:
    """Raises UserError unless each device's share of the batch can be divided into equal parts."""
    parts, share = config.train.accumulate_steps, config.data.batch_size // config.parallel.data
    if share % parts:
        raise UserError(
            f"train.accumulate_steps={parts} does not divide the {share} images of a batch that "
            "each device has; use a divisor"
        )


def _workdir(values: flags.FlagValues) -> Path:
    """Returns --workdir, or runs/<config>-<time>."""
    if values.workdir:
        return Path(values.workdir)
    config = Path(config_flags.get_config_filename(values["config"]))
    return Path("runs", f"{config.stem}-{time.strftime('%Y%m%d-%H%M%S')}")


def check_writable(folder: Path, flag: str = "workdir") -> None:
    """Raises UserError unless the folder exists or can be made, and can be written to."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {folder} is not writable ({existing}); give another --{flag}")


def check_training(config: ConfigDict, found: Summary, workdir: Path) -> None:
    """Raises UserError if the schedule lacks its data, or the workdir cannot hold this run."""
    if config.optim.schedule == "plateau" and "val" not in found.sizes:
        raise UserError(
            "optim.schedule='plateau' needs a validation split; set data.val_fraction above 0 or "
            "another schedule"
        )
    if config.checkpoint.on_full_disk == "continue" and parallel.is_distributed():
        raise UserError(
            "checkpoint.on_full_disk='continue' is for a single process: of several only one would "
            "know of the full disk; leave it out"
        )
    check_writable(workdir)
    if steps(workdir):
        newest_good(workdir)  # raises if there is none
        check_resume(config, workdir)
    elif config.init_from:
        check_init_from(config)


def check_resume(config: ConfigDict, workdir: Path) -> None:
    """Raises UserError unless the run in the workdir can go on with this config.

    A setting may change if it changes nothing that is computed: MAY_CHANGE, less those that the
    learning rate depends on.
    """
    old = read_config(workdir)
    fixed = SCHEDULE_DEPENDS_ON.get(config.optim.schedule, ())
    changed = [
        text
        for text in rules.differences(old, config)
        if not text.startswith(MAY_CHANGE) or text.startswith(fixed)
    ]
    if changed:
        raise UserError(
            f"workdir {workdir} holds the run of another config ({'; '.join(changed[:3])}); give "
            f"another --workdir, with --config.init_from={workdir} to start from its parameters"
        )


def check_init_from(config: ConfigDict) -> None:
    """Raises UserError unless the parameters of init_from fit the net and its input.

    Parameters only mean the same with the same input scale and the same kind of dropout.
    """
    path = Path(config.init_from)
    check_restorable(path)
    old = read_config(path)
    for key in ("input_scale",):
        if old.data[key] != config.data[key]:
            raise UserError(
                f"init_from {path} was trained with data.{key}={old.data[key]!r}, here it is "
                f"{config.data[key]!r}; give --config.data.{key}='{old.data[key]!r}'"
            )
    theirs = resolve(old.model, old.data.crop_size)
    ours = resolve(config.model, config.data.crop_size)
    if _dropouts(theirs) != _dropouts(ours):
        raise UserError(
            f"init_from {path} is of {old.model.name}, whose dropout is {_dropouts(theirs)}, and "
            f"{config.model.name}'s is {_dropouts(ours)}; give --config.model.name="
            f"{old.model.name}"
        )


def _dropouts(net: object) -> str:
    """Returns the kinds of dropout in a net, for a person."""
    from alexnet_jax.nets.spec import Dropout

    kinds = {layer.inverted for layer in net.layers if isinstance(layer, Dropout)}
    words = {True: "inverted", False: "not inverted"}
    return " and ".join(words[kind] for kind in sorted(kinds)) or "left out"


def check_evaluation(values: flags.FlagValues, workdir: Path) -> Run:
    """Returns the validated request of an evaluation.

    Each net is what its own config says. The data are read as the first checkpoint's run read them:
    its image size, and the validation split that it held out.

    Raises:
      UserError: a checkpoint that cannot be read, that the data set or an override contradicts, or
        a split that the data set lacks.
    """
    config, given = values.config, overrides(values)
    paths = tuple(map(Path, values.checkpoint)) or (workdir,)
    for path in paths:
        check_restorable(path)
    configs = [read_config(path) for path in paths]
    for path, own in zip(paths, configs, strict=True):
        _check_not_contradicted(path, own, given)
    _bring(config, configs[0], given)
    check_available(config.data)
    found = summary(config.data)
    split = config.eval.split or ("test" if "test" in found.sizes else "val")
    if split not in found.sizes:
        raise UserError(
            f"eval.split={split!r}, but {config.data.name} has {', '.join(found.sizes)}"
        )
    for path, own in zip(paths, configs, strict=True):
        _check_data_fits(path, own, config, found)
        own.parallel, own.eval = config.parallel, config.eval
        check_parallel(own, ("eval.batch_size",))
    workdir = workdir if values.workdir or len(paths) > 1 else workdir_of(paths[0])
    for place in (workdir, *_written_files(values)):
        check_writable(place)
    return Run(config, workdir, paths, split)


def _written_files(values: flags.FlagValues) -> list[Path]:
    return [Path(x) for x in (values.probabilities, values.submission) if x]


def _check_not_contradicted(path: Path, own: ConfigDict, given: Mapping[str, object]) -> None:
    theirs = dict(rules.flat(own))
    for key, value in given.items():
        if key.startswith(BROUGHT) and key in theirs and theirs[key] != value:
            raise UserError(
                f"checkpoint {path} was trained with {key}={theirs[key]!r}, not {value!r}; leave "
                "the override out"
            )


def _bring(config: ConfigDict, own: ConfigDict, given: Mapping[str, object]) -> None:
    """Sets what a checkpoint brings to an evaluation: its net, its input, its validation split."""
    config.model = own.model
    for key in ("crop_size", "input_mean", "input_scale"):
        config.data[key] = own.data[key]
    if own.data.name == config.data.name:
        config.data.image_size, config.data.val_fraction = (
            own.data.image_size,
            own.data.val_fraction,
        )


def _check_data_fits(path: Path, own: ConfigDict, config: ConfigDict, found: Summary) -> None:
    if own.model.num_classes != found.num_classes:
        raise UserError(
            f"checkpoint {path} has {own.model.num_classes} classes, but {config.data.name} "
            f"has {found.num_classes}; give the data set that it was trained on"
        )
    if own.data.crop_size > config.data.image_size:
        raise UserError(
            f"checkpoint {path} takes {own.data.crop_size} pixels, more than the stored "
            f"data.image_size={config.data.image_size}; prepare larger images"
        )
