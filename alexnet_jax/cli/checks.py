"""The checks before a run: config, data, net, devices and workdir. Nothing is written."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from alexnet_jax import parallel
from alexnet_jax.cli import effects
from alexnet_jax.cli.net_checks import check_division, check_net, check_parallel, check_parts
from alexnet_jax.cli.restore_checks import (
    Overrides,
    bring_to_evaluation,
    check_evaluated_data,
    check_init_from,
    check_resume,
)
from alexnet_jax.data import Summary, check_available, check_crop, summary
from alexnet_jax.data.pipeline import steps_per_epoch
from alexnet_jax.errors import UserError
from alexnet_jax.runs import rules
from alexnet_jax.runs.workdir import (
    CONFIG,
    EVALUATION,
    PREDICTIONS,
    check_encoding,
    check_is_workdir,
    find_good,
    newest_good,
    read_config,
    results,
    steps,
    workdir_of,
)


@dataclass(frozen=True)
class Run:
    """A validated request.

    Attributes:
      config: resolved.
      workdir: of the run; of an evaluation, the folder that its result is written to.
      notes: lines for the user on what the checks have found.
      checkpoints: workdirs or workdir/checkpoints/STEP to evaluate; () for a training.
      split: name of the split to evaluate on; "" for a training.
    """

    config: ConfigDict
    workdir: Path
    notes: tuple[str, ...] = ()
    checkpoints: tuple[Path, ...] = ()
    split: str = ""


def check(values: flags.FlagValues) -> Run:
    """Returns the validated request that the flags of `alexnet_jax.main` describe.

    Raises:
      UserError: a wrong value, missing data, settings that contradict each other or the data, a
        workdir or checkpoint that cannot be used.
    """
    config, workdir = values.config, _workdir(values)
    rules.check(config)  # first: all other checks compute with the settings
    _check_flags_fit(values)
    if values.mode == "eval":
        return check_evaluation(values, workdir)
    if values.mode == "describe":
        return Run(config, workdir, tuple(check_model(config, overrides(values))))
    return Run(config, workdir, tuple(check_run(config, workdir, overrides(values))))


def check_model(config: ConfigDict, given: Overrides) -> list[str]:
    """Checks that the net can be built, and returns lines for the user.

    If model.num_classes is not set, it is filled in from the data; otherwise no data are needed.

    Args:
      config: changed in place.
      given: the settings that the command line changes.

    Raises:
      UserError: the net cannot be built or divided over the devices, or the data are missing.
    """
    notes = []
    if config.model.num_classes is None:
        check_available(config.data)
        check_crop(config.data)
        classes = summary(config.data).num_classes
        notes = fill_classes(config, classes, "model.num_classes" not in given)
    check_net(config)
    check_division(config, ("data.batch_size", "eval.batch_size"))
    check_parts(config)
    return notes + effects.without_effect(config, given)


def check_run(config: ConfigDict, workdir: Path, given: Overrides) -> list[str]:
    """Checks a training, fills in model.num_classes, and returns lines for the user.

    Args:
      config: of the run; changed in place.
      workdir: of the run.
      given: the settings that the command line changes.

    Raises:
      UserError: the config cannot be trained into the workdir.
    """
    # The data come first: the net's classifier and the division of batches depend on them.
    found = summary(config.data)
    notes = fill_classes(config, found.num_classes, "model.num_classes" not in given)
    # A checkpoint can bring its net and its crop, which the checks below read.
    notes += check_start(config, workdir, given)
    check_available(config.data)
    check_crop(config.data)
    check_net(config)
    check_parallel(config, ("data.batch_size", "eval.batch_size"))
    check_parts(config)
    check_training(config, found)
    notes += effects.without_effect(config, given) + effects.without_effect_on(config.data, given)
    notes += effects.long_warmup(config, found) + effects.late_changes(config, found)
    return notes + effects.equal_views(config)


def _check_flags_fit(values: flags.FlagValues) -> None:
    for name in ("checkpoint", "probabilities", "submission"):
        if values[name].value and values.mode != "eval":
            raise UserError(f"--{name} is for --mode=eval, not --mode={values.mode}; leave it out")
    if parallel.is_distributed() and not values.workdir:
        raise UserError("several processes need --workdir: they share one")
    if values.mode == "eval" and not values.checkpoint and not values.workdir:
        raise UserError("--mode=eval needs something to restore; give --workdir or --checkpoint")


def overrides(values: flags.FlagValues) -> Overrides:
    """Returns the settings that the command line changes, by key."""
    return config_flags.get_override_values(values["config"])


def fill_classes(config: ConfigDict, classes: int, is_default: bool = False) -> list[str]:
    """Sets model.num_classes to the number of classes of the data.

    Args:
      config: of the run; changed in place.
      classes: number of classes of the data set.
      is_default: the config's number is a default of the config file, which other data overrule.

    Returns:
      A list with a line for the user if a default was overruled, otherwise [].

    Raises:
      UserError: the user has set another number.
    """
    given, config.model.num_classes = config.model.num_classes, classes
    if given in (None, classes):
        return []
    if not is_default:
        raise UserError(
            f"model.num_classes={given}, but {config.data.name} has {classes} classes; give "
            f"--config.model.num_classes={classes} or leave it out"
        )
    return [f"model.num_classes={classes}, as {config.data.name} has (the config has {given})"]


def _workdir(values: flags.FlagValues) -> Path:
    """Returns --workdir, or runs/<config>-<time>."""
    if values.workdir:
        return Path(values.workdir)
    config = Path(config_flags.get_config_filename(values["config"]))
    # The time keeps two runs of one config apart.
    return Path("runs", f"{config.stem}-{time.strftime('%Y%m%d-%H%M%S')}")


def check_writable(folder: Path, flag: str = "workdir") -> None:
    """Raises UserError unless the folder exists or can be made, and can be written to."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    # Making an entry in a folder takes the right to write to it and the right to enter it.
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {folder} is not writable ({existing}); give another --{flag}")


def check_workdir(workdir: Path) -> None:
    """Raises UserError unless files can be written into the workdir, and it is no checkpoint.

    A run inside the folder of a checkpoint would be removed with it.
    """
    check_is_workdir(workdir)
    check_encoding(workdir)
    check_writable(workdir)


def check_start(config: ConfigDict, workdir: Path, given: Overrides) -> list[str]:
    """Checks the workdir, and the checkpoint that a training resumes or starts from.

    Args:
      config: of the run; gets the checkpoint's net and input.
      workdir: of the run.
      given: the settings that the command line changes.

    Returns:
      Lines for the user on config.init_from.

    Raises:
      UserError: the workdir or the checkpoint of init_from does not fit the run, or the workdir
        holds the result of another one.
    """
    check_workdir(workdir)
    if steps(workdir):
        newest_good(workdir)  # raises if there is none
        return check_resume(config, workdir, given)
    found = results(workdir)
    if found:
        raise UserError(
            f"workdir {workdir} holds {' and '.join(found)} of checkpoints that are not in it, "
            "which would pass for this run's; remove them, or give another --workdir"
        )
    if config.init_from:
        return check_init_from(config, given)
    return []


def check_training(config: ConfigDict, found: Summary) -> None:
    """Raises UserError for too many steps, or a plateau schedule without validation data.

    A run of several processes that is to pass over a full disk or a corrupt image is refused, too.
    """
    _check_epochs(config, steps_per_epoch(found.sizes["train"], config.data.batch_size))
    if config.optim.schedule == "plateau" and "val" not in found.sizes:
        raise UserError(
            "optim.schedule='plateau' needs a validation split; set data.val_fraction above 0 or "
            "another schedule"
        )
    settings = dict(rules.flat(config))
    for key, value, cause in (
        ("checkpoint.on_full_disk", "continue", "the full disk"),
        ("data.on_bad_record", "skip", "the corrupt image"),
    ):
        if settings[key] == value and parallel.is_distributed():
            raise UserError(
                f"{key}={value!r} is for a single process: of several only one would know of "
                f"{cause}; leave it out"
            )


def _check_epochs(config: ConfigDict, batches: int) -> None:
    """Raises UserError for a number of epochs of `batches` steps that int32 cannot count."""
    settings, unread = dict(rules.flat(config)), rules.unread(config)
    epochs = {key: settings[key] for key in ("train.epochs", "optim.warmup_epochs")}
    epochs |= {key: max((row[-2] for row in settings[key]), default=0) for key in effects.LISTED}
    for key, number in epochs.items():
        if key not in unread and number * batches > rules.LARGEST:
            raise UserError(
                f"{key}: {number:g} epochs are {number * batches:.3g} steps, more than "
                f"{rules.LARGEST}; lower it"
            )


def check_evaluation(values: flags.FlagValues, workdir: Path) -> Run:
    """Returns the validated request of an evaluation.

    Each checkpoint's net is built by its own config. The data are read as the first checkpoint's
    run read them: with its image size, and the validation split that it held out.

    Raises:
      UserError: a checkpoint that cannot be read, that the data set or an override contradicts, or
        a split that the data set lacks.
    """
    config = values.config
    paths = tuple(map(Path, values.checkpoint)) or (workdir,)
    bring_to_evaluation(config, paths, overrides(values))
    _check_members(paths)
    found = summary(config.data)
    for path in paths:
        check_evaluated_data(path, config, found)
    check_available(config.data)
    check_crop(config.data)
    split = config.eval.split or ("test" if "test" in found.sizes else "val")
    if split not in found.sizes:
        raise UserError(
            f"eval.split={split!r}, but {config.data.name} has {', '.join(found.sizes)}"
        )
    for path in paths:
        own = read_config(path)
        # The net is the checkpoint's; devices, views and batch size are this command's.
        own.parallel, own.eval = config.parallel, config.eval
        check_parallel(own, ("eval.batch_size",))
    # The result of a single checkpoint belongs to its run; that of an ensemble to none of them.
    workdir = workdir if values.workdir or len(paths) > 1 else workdir_of(paths[0])
    _check_whose_folder(workdir, paths)
    check_workdir(workdir)
    _check_written_files(values, workdir)
    notes = tuple(effects.equal_views(config))
    return Run(config, workdir, notes, checkpoints=paths, split=split)


def _check_whose_folder(workdir: Path, paths: Sequence[Path]) -> None:
    """Raises UserError if the result would be written into the workdir of another run."""
    evaluated = {workdir_of(path).resolve() for path in paths}
    if steps(workdir) and workdir.resolve() not in evaluated:
        raise UserError(
            f"workdir {workdir} holds another run than {paths[0]}, and eval.json in it would pass "
            "for that run's; give another --workdir, or leave it out"
        )


def _check_written_files(values: flags.FlagValues, workdir: Path) -> None:
    """Raises UserError unless the files of --probabilities and --submission can be written.

    Files of the workdir that have a meaning of their own may not be overwritten.
    """
    # NumPy would append .npz to any other name.
    if values.probabilities and Path(values.probabilities).suffix != ".npz":
        raise UserError(f"--probabilities={values.probabilities} has to end in .npz")
    for name in ("probabilities", "submission"):
        file = Path(values[name].value)
        if file.resolve() in [(workdir / x).resolve() for x in (CONFIG, EVALUATION, PREDICTIONS)]:
            raise UserError(f"--{name}={file} is a file of the run itself; give another name")
        if not values[name].value or (file.is_file() and os.access(file, os.W_OK)):
            continue
        check_writable(file, name)
        if file.is_dir():
            raise UserError(f"--{name}={file} is a folder; give a file")


def _check_members(paths: Sequence[Path]) -> None:
    """Raises UserError if two members of an ensemble are the same checkpoint."""
    found: dict[tuple[Path, int], Path] = {}
    for path in paths:
        member = (workdir_of(path).resolve(), find_good(path)[0])
        if member in found:
            raise UserError(
                f"--checkpoint names a checkpoint twice ({found[member]} and {path}); leave one out"
            )
        found[member] = path
