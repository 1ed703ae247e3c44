"""Measures training on this machine: the step, the loader, both together, start-up and memory.

Example:   python -m alexnet_jax.benchmark
           python -m alexnet_jax.benchmark --config=configs/imagenet.py
               --config.data.name=synthetic --config.data.synthetic_classes=1000

Prints a table, then one line of JSON. Rates are medians of --repeats, each measured in turn with
the others; ratios are taken repeat by repeat. Without --config it is configs/base.py.

The step is the compiled training step on one batch that stays on the devices. Its roof is the
float32 product of two 2048×2048 matrices, at jax's default precision (on NVIDIA GPUs from Ampere on
that is TF32), and the work of the layers with weights counts: norms, pooling and the update are
free of charge. First steps and memory are those of `alexnet_jax.main` itself in a process of its
own: cold = nothing compiled before, second = the same again.

With data.name=synthetic a store of such images is written to the temporary folder (TMPDIR) and
removed at the end: JPEG from 256 pixels up, else raw, or as --encoding says. Raw images that fit
into data.device_megabytes are held on the device; 0 there has them read from the store.

--against=torch runs the same net in PyTorch in turn, eager, on a float batch that lies ready, and
a DataLoader of two workers that reads the same images as JPEG files with Pillow.
"""

import importlib.util
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from alexnet_jax.cli import command, rules
from alexnet_jax.errors import UserError

DEFAULT_CONFIG = "--config=configs/base.py"
JPEG_FROM = 256  # pixels, side from which a synthetic store holds JPEGs unless told otherwise
NEEDED = {"torch": "torch==2.13.0", "PIL": "pillow"}  # for --against=torch


def define_flags(values: flags.FlagValues) -> None:
    """The flags besides --config."""
    own = {"flag_values": values}
    flags.DEFINE_enum("against", "", ["", "torch"], "torch: run the same in PyTorch too.", **own)
    encoding = "raw or jpeg: how the temporary store of data.name=synthetic holds its images."
    flags.DEFINE_enum("encoding", "", ["", "raw", "jpeg"], encoding, **own)
    profile = "Folder for a trace of a few steps by JAX's profiler; empty = none."
    flags.DEFINE_string("profile", "", profile, **own)
    flags.DEFINE_integer("repeats", 3, "How often each rate is measured.", lower_bound=1, **own)
    seconds = "How long each measurement of a rate goes on at least; two calls at least."
    flags.DEFINE_float("seconds", 2.0, seconds, **own)


def with_default_config(argv: list[str]) -> list[str]:
    """The command line, with configs/base.py where it names no config file."""
    named = any(x.lstrip("-").partition("=")[0] == "config" for x in argv)
    return argv if named else [argv[0], DEFAULT_CONFIG, *argv[1:]]


def check(values: flags.FlagValues) -> ConfigDict:
    """The config with its number of classes filled in.

    Raises:
      UserError: what main would refuse, flags that do not fit, packages that are missing.
    """
    config = values.config
    rules.check(config)
    if not 0 <= values.seconds <= 3600:
        raise UserError(f"--seconds={values.seconds:g} has to be from 0 to 3600")
    for package in NEEDED if values.against else ():
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--against=torch needs it: pip install {NEEDED[package]}")
    if values.encoding and config.data.name != "synthetic":
        raise UserError(
            f"--encoding={values.encoding} is for data.name=synthetic, not {config.data.name}; "
            "leave it out"
        )
    from alexnet_jax.cli import checks
    from alexnet_jax.data import check_available, summary

    check_available(config.data)
    found = summary(config.data)
    checks.fill_classes(config, found.num_classes)
    checks.check_net(config)
    checks.check_parallel(config, ("data.batch_size", "eval.batch_size"))
    checks.check_training(config, found, Path(tempfile.gettempdir(), str(os.getpid())))
    if values.profile:
        checks.check_writable(Path(values.profile), "profile")
    return config


def arguments_of(values: flags.FlagValues) -> list[str]:
    """The config's flags as they were given, for another command."""
    overrides = config_flags.get_override_values(values["config"])
    file = config_flags.get_config_filename(values["config"])
    return [f"--config={file}", *(f"--config.{key}={x}" for key, x in overrides.items())]


def use_synthetic_store(config: ConfigDict, encoding: str, directory: Path) -> list[str]:
    """Writes the store and makes the config read it; returns the flags that say the same."""
    from alexnet_jax.benchmark.synthetic_store import NAME, write_synthetic

    usual = "jpeg" if config.data.image_size >= JPEG_FROM else "raw"
    write_synthetic(directory, config.data, encoding or usual)
    config.data.name, config.data.dir = NAME, str(directory)
    return [f"--config.data.name={NAME}", f"--config.data.dir={directory}"]


def main(values: flags.FlagValues) -> int:
    """Measures and prints; returns the exit code."""
    config, arguments = check(values), arguments_of(values)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the run that is watched ends too
    if values.against:  # jax and PyTorch share a GPU's memory
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    with tempfile.TemporaryDirectory(prefix="alexnet_benchmark-") as name:
        folder = Path(name)
        if config.data.name == "synthetic":
            arguments += use_synthetic_store(config, values.encoding, folder / "store")
        once = watched(arguments, folder / "cache", values.seconds)
        record = measured(config, values, once, folder)
    from alexnet_jax.benchmark.report import table

    print(table(record), json.dumps(record), sep="\n\n")
    return 0


def watched(arguments: list[str], cache: Path, seconds: float) -> dict[str, float]:
    """First steps and memory of main as a process of its own, before this one takes the devices."""
    from jax.extend.backend import clear_backends

    from alexnet_jax.benchmark import report, starts

    clear_backends()  # where a check has counted the devices
    print("watching two training runs from outside", flush=True)
    cold = starts.watch(arguments, cache, 0.0)
    return report.of_starts(cold, starts.watch(arguments, cache, 5 * seconds))


def measured(
    config: ConfigDict, values: flags.FlagValues, once: dict[str, float], folder: Path
) -> dict[str, Any]:
    """Measures every rate in this process; returns what the JSON line says."""
    from alexnet_jax.benchmark import measures, rates, report
    from alexnet_jax.benchmark.training import Training, flops_per_image
    from alexnet_jax.data import open_dataset

    print("measuring step, loader and both in turn", flush=True)
    dataset = open_dataset(config.data)
    split, training = dataset.splits["train"], Training(config, dataset)
    each = measures.of_training(training, split, values.seconds)
    if values.against:
        theirs = (config, training, split, folder / "jpegs", values.seconds)
        each = measures.of_torch(*theirs) | each
    found = rates.in_turn(each, values.repeats)
    found |= measures.ratios(found, flops_per_image(config))
    if values.profile:
        training.trace(Path(values.profile))
    return report.record(found, once, report.circumstances(config, split, training.devices))


if __name__ == "__main__":
    sys.argv = with_default_config(sys.argv)
    command.run(main, define_flags, __doc__, with_config=True)
