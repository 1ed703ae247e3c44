"""The lines that a training prints at its start and at its end."""

import os
import textwrap
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alexnet_jax.data import Dataset
from alexnet_jax.nets.shapes import without_statistics
from alexnet_jax.nets.spec import Net
from alexnet_jax.parallel import Devices
from alexnet_jax.runs.metrics import FILE, best_validation
from alexnet_jax.runs.workdir import FOLDER

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")  # the driver's kernel module creates it


def net_line(name: str, net: Net, params: Any) -> str:
    """Returns a line with the net's name, number of learned parameters, towers and input size."""
    # Batch normalisation keeps its running averages in params, but no gradient moves them.
    parameters = sum(x.size for x in jax.tree.leaves(without_statistics(params)))
    towers = f"{net.towers} towers" if net.towers > 1 else "1 tower"
    return f"net: {name}, {parameters:,} parameters, {towers}, {net.crop}×{net.crop} pixels"


def data_line(dataset: Dataset) -> str:
    """Returns a line with the data set's name, its number of classes and each split's images."""
    splits = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
    return f"data: {dataset.name}, {len(dataset.class_names)} classes, images: {splits}"


def unlearned_lines(dataset: Dataset) -> list[str]:
    """Returns a line that names the classes without a training image, otherwise []."""
    # Such as one whose only image is held out for validation, or was left out as broken.
    counts = np.bincount(dataset.splits["train"].labels, minlength=len(dataset.class_names))
    missing = [name for name, count in zip(dataset.class_names, counts, strict=True) if not count]
    if not missing:
        return []
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    of_all = f"{len(missing)} of {len(counts)} classes"
    line = f"no training image of {of_all}: {', '.join(missing[:5])}{more}"
    return [textwrap.fill(line, 80, subsequent_indent="  ")]


def device_lines(devices: Devices) -> list[str]:
    """Returns a line on the devices in use, and one more if an NVIDIA GPU is left idle."""
    count = devices.layout.devices
    cores = f", {os.cpu_count()} cores" if devices.is_cpu else ""
    lines = [f"devices: {count} × {devices.kind}{cores}"]
    # With JAX_PLATFORMS set, the user has chosen the CPU.
    if devices.is_cpu and NVIDIA_DRIVER.exists() and not os.environ.get("JAX_PLATFORMS"):
        lines.append(
            "an NVIDIA driver is present, but JAX has found no GPU and uses the CPU;\n"
            f'  for the GPU: pip install "jax[cuda12]=={jax.__version__}"'
        )
    return lines


def end_lines(workdir: Path, step: int) -> list[str]:
    """Returns the lines at the end: the best validation, the checkpoints, the next command."""
    best = best_validation(workdir / FILE)
    lowest = f"; lowest validation error {100 * best[1]:.2f} % at step {best[0]}" if best else ""
    return [
        f"finished at step {step}{lowest}",
        f"checkpoints: {workdir / FOLDER}",
        f"to evaluate: python -m alexnet_jax.main --mode=eval --workdir={workdir}",
    ]
