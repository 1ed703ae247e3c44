"""The table and the JSON line of a benchmark."""

from statistics import median
from typing import Any

import jax
from ml_collections import ConfigDict

from alexnet_jax.benchmark.machine import processor, versions
from alexnet_jax.benchmark.rates import Rates
from alexnet_jax.benchmark.starts import Seen
from alexnet_jax.benchmark.training import flops_per_image
from alexnet_jax.data import Split
from alexnet_jax.data.pipeline import is_held
from alexnet_jax.data.store import JpegRecords
from alexnet_jax.data.threads import THREADS
from alexnet_jax.parallel import Devices
from alexnet_jax.plan.report import columns

MEGA = 1e6
LABELS = {  # of the keys in the JSON line, in the order of the table
    "step_images_per_second": "step, on one batch that stays on the device, images/s",
    "matmul_gflops": "roof: float32 matrix product, GFLOP/s",
    "roof_fraction": "step ÷ roof",
    "loader_images_per_second": "loader alone, images/s",
    "decoder_images_per_second": "JPEG decoder alone, on all cores, images/s",
    "loader_decoder_fraction": "loader ÷ decoder",
    "end_to_end_images_per_second": "step and loader together, images/s",
    "end_to_end_fraction": "together ÷ step",
    "torch_images_per_second": "PyTorch: step, on one float batch that stays, images/s",
    "ratio": "step ÷ PyTorch's",
    "torch_keeping_memory_images_per_second": "PyTorch, with freed memory kept as ours, images/s",
    "ratio_keeping_memory": "step ÷ that",
    "torch_loader_images_per_second": "PyTorch: DataLoader of JPEG files, images/s",
    "torch_loader_ratio": "loader ÷ PyTorch's",
    "first_step_seconds": "process start to first step done, cold, s",
    "second_start_seconds": "the same again, with what was compiled, s",
    "peak_rss_mb": "peak resident memory of training, MB",
    "rss_growth_mb": "growth of what is kept, between halves of the steps watched, MB",
    "rss_steps": "steps watched",
}


def circumstances(config: ConfigDict, split: Split, devices: Devices) -> dict[str, Any]:
    """What was measured, of which images, on which machine."""
    jpeg = isinstance(split.images, JpegRecords)
    return {
        "model": config.model.name,
        "width": config.model.width,
        "crop_size": config.data.crop_size,
        "batch_size": config.data.batch_size,
        "training_flops_per_image": flops_per_image(config),
        "data": config.data.name,
        "images": len(split),
        "image_size": config.data.image_size,
        "encoding": "jpeg" if jpeg else "raw",
        "held_on_device": is_held(split, config.data.device_megabytes * 10**6),
        "devices": devices.mesh.size,
        "device": devices.kind,
        "matmul_precision": jax.config.jax_default_matmul_precision or "default",
        "processor": processor(),
        "cores": THREADS,
        "versions": versions(),
    }


def of_starts(cold: Seen, second: Seen) -> dict[str, float]:
    """What was seen of the two runs that were watched, by its keys in the JSON line."""
    return {
        "first_step_seconds": cold.first_step,
        "second_start_seconds": second.first_step,
        "peak_rss_mb": second.peak / MEGA,
        "rss_growth_mb": second.growth / MEGA,
        "rss_steps": second.steps,
    }


def record(rates: Rates, once: dict[str, float], circumstances: dict[str, Any]) -> dict[str, Any]:
    """The JSON line: medians, what was measured once, the lowest and highest of each rate."""
    middles = {name: rounded(median(values)) for name, values in rates.items()}
    spread = {name: [rounded(f(x)) for f in (min, max)] for name, x in rates.items()}
    repeats = len(next(iter(rates.values())))
    once = {name: rounded(value) for name, value in once.items()}
    return middles | once | circumstances | {"repeats": repeats, "spread": spread}


def rounded(value: float) -> float:
    """To four significant digits."""
    return float(f"{value:.4g}")


def table(record: dict[str, Any]) -> str:
    """The record for people: what was measured, then every number with its range."""
    rows = [("", "median", "lowest", "highest")]
    for key, label in LABELS.items():
        if key in record:
            numbers = (record[key], *record["spread"].get(key, ()))
            rows.append((label, *(f"{x:,.6g}" for x in numbers), *[""] * (3 - len(numbers))))
    return f"{_title(record)}\n\n{columns(rows, left=1)}"


def _title(record: dict[str, Any]) -> str:
    held = "held on the device" if record["held_on_device"] else "read as they are needed"
    return (
        "{model}, width {width:g}, {crop_size} pixels, batch {batch_size}, on {devices} {device} "
        "({processor}, {cores} cores)\n{images:,} training images of {image_size} pixels, "
        "{encoding}, {held}; {gflop:.3f} GFLOP a training image; matrix products at precision "
        "{matmul_precision}; {repeats} repeats"
    ).format(**record, held=held, gflop=record["training_flops_per_image"] / 1e9)
