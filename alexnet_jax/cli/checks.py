"""What has to be right before a run: config, data, net and workdir. Nothing here writes."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from alexnet_jax import parallel
from alexnet_jax.cli import rules
from alexnet_jax.data import Summary, check_available, summary
from alexnet_jax.errors import UserError
from alexnet_jax.nets.variants import resolve, weighted_layers
from alexnet_jax.runs.workdir import (
    CONFIG,
    check_restorable,
    newest_good,
    read_config,
    steps,
    workdir_of,
)

# What a resumed run may change: how long it goes on and what it tells, not what it computes.
MAY_CHANGE = (
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
OF_THE_NET = ("model.", "data.crop_size", "data.input_mean", "data.input_scale")


@dataclass(frozen=True)
class Run:
    """What was asked for, checked: `split` and `checkpoints` are for an evaluation."""

    config: ConfigDict
    workdir: Path
    checkpoints: tuple[Path, ...] = ()
    split: str = ""


def check(values: flags.FlagValues) -> Run:
    """All that main needs, from its flags.

    Raises:
      UserError: a wrong value, missing data, settings that contradict each other or the data, a
        workdir or checkpoint that cannot be used.
    """
    config, workdir = values.config, _workdir(values)
    rules.check(config)
    _check_flags_fit(values)
    if values.mode == "describe" and config.model.num_classes is not None:
        check_net(config)
        return Run(config, workdir)
    check_available(config.data)
    found = summary(config.data)
    if values.mode == "eval":
        paths = tuple(map(Path, values.checkpoint)) or (workdir,)
        split = check_evaluation(config, found, paths, _overrides(values))
        for path in paths:
            check_parallel(config, read_config(path), ("eval.batch_size",))
        workdir = workdir if values.workdir or len(paths) > 1 else workdir_of(paths[0])
        for place in (workdir, *_written_files(values)):
            check_writable(place)
        return Run(config, workdir, paths, split)
    fill_classes(config, found.num_classes)
    check_net(config)
    if values.mode == "train":
        check_parallel(config, config, ("data.batch_size", "eval.batch_size"))
        check_parts(config)
        check_training(config, found, workdir)
    return Run(config, workdir)


def _check_flags_fit(values: flags.FlagValues) -> None:
    for name in ("checkpoint", "probabilities", "submission"):
        if values[name].value and values.mode != "eval":
            raise UserError(f"--{name} is for --mode=eval, not --mode={values.mode}; leave it out")
    if parallel.is_one_of_several() and not values.workdir:
        raise UserError("several processes need --workdir: they share one")
    if values.mode == "eval" and not values.checkpoint and not values.workdir:
        raise UserError("--mode=eval needs something to restore; give --workdir or --checkpoint")


def _written_files(values: flags.FlagValues) -> list[Path]:
    return [Path(x) for x in (values.probabilities, values.submission) if x]


def _overrides(values: flags.FlagValues) -> dict[str, object]:
    return config_flags.get_override_values(values["config"])


def fill_classes(config: ConfigDict, classes: int) -> None:
    """Sets model.num_classes; raises UserError if it was set to something else."""
    given = config.model.num_classes
    if given is not None and given != classes:
        raise UserError(
            f"model.num_classes={given}, but {config.data.name} has {classes} classes; leave it out"
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


def check_parallel(config: ConfigDict, net_config: ConfigDict, sizes: Sequence[str]) -> None:
    """Raises UserError unless the net and the batches fit config.parallel, and the devices do."""
    layout = parallel.layout_of(config.parallel)
    net = resolve(net_config.model, net_config.data.crop_size)
    values = dict(rules.flat(config))
    parallel.check_layout(layout, net, {key: values[key] for key in sizes})
    if layout.devices > 1:
        parallel.check_devices(layout)


def check_parts(config: ConfigDict) -> None:
    """Raises UserError unless each device's share of the batch can be divided into equal parts."""
    parts, share = config.train.accumulate_steps, config.data.batch_size // config.parallel.data
    if share % parts:
        raise UserError(
            f"train.accumulate_steps={parts} does not divide the {share} images of a batch that "
            "each device has; use a divisor"
        )


def _workdir(values: flags.FlagValues) -> Path:
    """--workdir, or runs/<config>-<time>."""
    if values.workdir:
        return Path(values.workdir)
    config = Path(config_flags.get_config_filename(values["config"]))
    return Path("runs", f"{config.stem}-{time.strftime('%Y%m%d-%H%M%S')}")


def check_writable(folder: Path, flag: str = "workdir") -> None:
    """Raises UserError unless the folder is there or can be made, and can be written to."""
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
    if config.checkpoint.on_full_disk == "continue" and parallel.is_one_of_several():
        raise UserError(
            "checkpoint.on_full_disk='continue' is for a single process: of several only one would "
            "know of the full disk; leave it out"
        )
    check_writable(workdir)
    if steps(workdir):
        newest_good(workdir)  # raises if there is none
    if config.init_from:
        check_restorable(Path(config.init_from))
    if not (workdir / CONFIG).is_file():
        return
    changed = [
        text
        for text in rules.differences(read_config(workdir), config)
        if not text.startswith(MAY_CHANGE)
    ]
    if changed:
        raise UserError(
            f"workdir {workdir} holds the run of another config ({'; '.join(changed[:3])}); "
            "give another --workdir"
        )


def check_evaluation(
    config: ConfigDict, found: Summary, paths: Sequence[Path], overrides: dict[str, object]
) -> str:
    """Raises UserError unless these checkpoints can be evaluated on this data; returns the split.

    The nets are what their own configs say; `overrides` are the user's, which must not contradict.
    """
    for path in paths:
        check_restorable(path)
        own = read_config(path)
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
        theirs = dict(rules.flat(own))
        for key, value in overrides.items():
            if key.startswith(OF_THE_NET) and theirs[key] != value:
                raise UserError(
                    f"checkpoint {path} is of another net: {key} is {theirs[key]!r} there, "
                    f"{value!r} here; leave the override out"
                )
    split = config.eval.split or ("test" if "test" in found.sizes else "val")
    if split not in found.sizes:
        raise UserError(
            f"eval.split={split!r}, but {config.data.name} has {', '.join(found.sizes)}"
        )
    return split
