"""Measures training here: the step, the loader, both, start-up and memory.

Example:   python -m alexnet_jax.benchmark
           python -m alexnet_jax.benchmark --config=configs/imagenet.py
               --config.data.name=synthetic --config.data.synthetic_classes=1000

Prints a table, then one line of JSON. Rates are medians of --repeats. In each
repeat every rate is measured once, and ratios are taken within a repeat. The
default --config is configs/base.py.

The step is the compiled training step on one batch that stays on the devices.
Its roof (upper bound) is the rate of the float32 product of two 2048×2048
matrices at jax's default precision (on NVIDIA GPUs from Ampere on that is
TF32). Only the layers with weights count; norms, pooling and the update are not
counted as FLOPs. First steps and memory are those of `alexnet_jax.main` in a
process of its own: cold = with an empty compilation cache, second = the same
command again.

With data.name=synthetic a store of synthetic images is written to the temporary
folder (TMPDIR) and removed at the end: JPEG from 256 pixels up, else raw, or as
--encoding says. Raw images that fit into data.device_megabytes are held on the
device; a value of 0 has them read from the store.

--against=torch measures the same net in PyTorch in the same repeats: eager, in
float32, on a batch that is already on the device, and a DataLoader of two
workers that reads the same images as JPEG files with Pillow.
"""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from alexnet_jax import environment
from alexnet_jax.cli import command, config_flag
from alexnet_jax.errors import UserError
from alexnet_jax.runs import rules

CONFIG = "base.py"  # unless --config names another
JPEG_FROM = 256  # pixels, side from which a synthetic store holds JPEGs by default
NEEDED = {"torch": "torch==2.13.0", "PIL": "pillow"}  # for --against=torch
# What PyTorch's step does, by the settings that would have ours do other work.
TORCH_STEP = {
    "train.compute_dtype": ("float32",),
    "train.accumulate_steps": (1,),
    "train.label_smoothing": (0.0,),
    "train.ema_decay": (0.0,),
    "optim.name": ("paper", "sgd"),
    "parallel.data": (1,),
    "parallel.tower": (1,),
}


def define_flags(values: flags.FlagValues) -> None:
    """Declares the flags other than --config."""
    own = {"flag_values": values}
    against = "torch: measure the same net in PyTorch too."
    flags.DEFINE_enum("against", "", ["", "torch"], against, **own)
    encoding = "raw or jpeg: of the images in the temporary store of data.name=synthetic."
    flags.DEFINE_enum("encoding", "", ["", "raw", "jpeg"], encoding, **own)
    profile = "Folder for a trace of a few steps by JAX's profiler; empty = none."
    flags.DEFINE_string("profile", "", profile, **own)
    flags.DEFINE_integer("repeats", 3, "Measurements of each rate.", lower_bound=1, **own)
    seconds = "Shortest duration of a measurement in seconds; it has two calls at least."
    flags.DEFINE_float("seconds", 2.0, seconds, **own)


def check_flags(values: flags.FlagValues) -> None:
    """Raises UserError for flags that do not fit, and for packages that are missing."""
    if not 0 <= values.seconds <= 3600:
        raise UserError(f"--seconds={values.seconds:g} has to be from 0 to 3600")
    if values.against:
        check_against_torch(values.config)
    name = values.config.data.name
    if values.encoding and name != "synthetic":
        raise UserError(
            f"--encoding={values.encoding} is for data.name=synthetic, not {name}; leave it out"
        )


def check_against_torch(config: ConfigDict) -> None:
    """Raises UserError for a setting that PyTorch's step does not have, or a missing package."""
    for key, value in rules.flat(config):
        if value not in TORCH_STEP.get(key, (value,)):
            raise UserError(
                f"--against=torch measures a step with {key}={TORCH_STEP[key][0]!r}, not "
                f"{value!r}; leave one of the two out"
            )
    for package in NEEDED:
        if not environment.is_installed(package):
            raise UserError(f"--against=torch needs it: pip install {NEEDED[package]}")


def resolved(values: flags.FlagValues) -> ConfigDict:
    """Returns the config with its number of classes filled in.

    Raises:
      UserError: what main would refuse, flags that do not fit, packages that are missing.
    """
    rules.check(values.config)
    check_flags(values)
    from alexnet_jax.cli import checks

    # The check needs the path of an empty workdir; nothing is ever written to this one.
    nowhere = Path(tempfile.gettempdir(), str(os.getpid()))
    checks.check_run(values.config, nowhere, checks.overrides(values))
    if values.profile:
        checks.check_writable(Path(values.profile), "profile")
    return values.config


def config_arguments(values: flags.FlagValues) -> list[str]:
    """Returns --config and its overrides as they were given, for a process of alexnet_jax.main."""
    overrides = config_flags.get_override_values(values["config"])
    file = config_flags.get_config_filename(values["config"])
    return [f"--config={file}", *(f"--config.{key}={x}" for key, x in overrides.items())]


def use_synthetic_store(config: ConfigDict, encoding: str, directory: Path) -> list[str]:
    """Writes a synthetic store and changes the config to read it.

    Returns:
      The flags that make another command read it too.
    """
    from alexnet_jax.benchmark.synthetic_store import NAME, write_synthetic

    default = "jpeg" if config.data.image_size >= JPEG_FROM else "raw"
    write_synthetic(directory, config.data, encoding or default)
    config.data.name, config.data.dir = NAME, str(directory)
    return [f"--config.data.name={NAME}", f"--config.data.dir={directory}"]


def main(values: flags.FlagValues) -> int:
    """Measures and prints the results; returns the exit code."""
    config, arguments = resolved(values), config_arguments(values)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, which ends the measured run
    if values.against:  # jax and PyTorch share a GPU's memory
        # jax would take three quarters of it at its start.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    with tempfile.TemporaryDirectory(prefix="alexnet_benchmark-") as name:
        folder = Path(name)
        if config.data.name == "synthetic":
            arguments += use_synthetic_store(config, values.encoding, folder / "store")
        # First, while this process has not yet taken the devices.
        once = measure_start_up(arguments, folder / "cache", values.seconds)
        record = measure(config, values, once, folder)
    from alexnet_jax.benchmark.report import record_text

    print(record_text(record), json.dumps(record), sep="\n\n")
    return 0


def measure_start_up(arguments: list[str], cache: Path, seconds: float) -> dict[str, float]:
    """Measures first steps and memory of alexnet_jax.main in two processes, one after the other.

    Args:
      arguments: of main.
      cache: folder of the compilation cache, empty before the first of the two.
      seconds: the second process is watched five times as long.
    """
    from alexnet_jax import parallel
    from alexnet_jax.benchmark.report import start_up_measures
    from alexnet_jax.benchmark.start_up import profile_start_up

    parallel.release_devices()  # a check may have counted them, and so taken a GPU's memory
    print("measuring the start of two training runs", flush=True)
    cold = profile_start_up(arguments, cache, 0.0)
    return start_up_measures(cold, profile_start_up(arguments, cache, 5 * seconds))


def measure(
    config: ConfigDict, values: flags.FlagValues, once: dict[str, float], folder: Path
) -> dict[str, Any]:
    """Measures every rate in this process; returns the content of the JSON line.

    Args:
      config: resolved.
      values: the flags.
      once: start-up times and memory, which are measured only once.
      folder: temporary.
    """
    from alexnet_jax.benchmark import measures, rates, report
    from alexnet_jax.benchmark.training import Training
    from alexnet_jax.data import open_dataset

    print("measuring step, loader and both together", flush=True)
    dataset = open_dataset(config.data)
    split, training = dataset.splits["train"], Training(config, dataset)
    each = measures.training_measures(training, split, values.seconds)
    if values.against:
        jpegs, seconds = folder / "jpegs", values.seconds
        each = measures.torch_measures(config, training, split, jpegs, seconds) | each
    circumstances = report.circumstances(config, split, training.devices)
    found = rates.interleave(each, values.repeats)
    found |= measures.derived_ratios(found, circumstances["training_flops_per_image"])
    if values.profile:
        training.trace(Path(values.profile))
    return report.record(found, once, circumstances)


if __name__ == "__main__":
    sys.argv = config_flag.with_default(sys.argv, CONFIG)
    command.run(main, define_flags, __doc__, with_config=True)
