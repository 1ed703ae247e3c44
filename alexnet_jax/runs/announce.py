"""The lines in which a training says what it starts with and what it ends with."""

import os
from pathlib import Path
from typing import Any

import jax

from alexnet_jax.data import Dataset
from alexnet_jax.nets.shapes import without_statistics
from alexnet_jax.nets.spec import Net
from alexnet_jax.parallel import Devices
from alexnet_jax.runs.metrics import FILE, best_validation
from alexnet_jax.runs.workdir import FOLDER

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def net_line(name: str, net: Net, params: Any) -> str:
    """Returns the net's name, its number of parameters, its towers and its input."""
    parameters = sum(x.size for x in jax.tree.leaves(without_statistics(params)))
    towers = f"{net.towers} towers" if net.towers > 1 else "1 tower"
    return f"net: {name}, {parameters:,} parameters, {towers}, {net.crop}×{net.crop} pixels"


def data_line(dataset: Dataset) -> str:
    """Returns the data set's name, its number of classes and the images of each split."""
    splits = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
    return f"data: {dataset.name}, {len(dataset.class_names)} classes, images: {splits}"


def device_lines(devices: Devices) -> list[str]:
    """Returns the devices in use, and whether a GPU beside them is left idle."""
    count = devices.layout.devices
    cores = f", {os.cpu_count()} cores" if devices.is_cpu else ""
    lines = [f"devices: {count} × {devices.kind}{cores}"]
    if devices.is_cpu and NVIDIA_DRIVER.exists() and not os.environ.get("JAX_PLATFORMS"):
        lines.append(
            "an NVIDIA driver is present, but JAX has found no GPU and uses the CPU;\n"
            f'  for the GPU: pip install "jax[cuda12]=={jax.__version__}"'
        )
    return lines


def end_lines(workdir: Path, step: int) -> list[str]:
    """Returns the end of a training: its best validation, its checkpoints, the next command."""
    best = best_validation(workdir / FILE)
    lowest = f"; lowest validation error {100 * best[1]:.2f} % at step {best[0]}" if best else ""
    return [
        f"finished at step {step}{lowest}",
        f"checkpoints: {workdir / FOLDER}",
        f"to evaluate: python -m alexnet_jax.main --mode=eval --workdir={workdir}",
    ]
