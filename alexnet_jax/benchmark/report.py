"""The record of a benchmark, and its table for a terminal of 80 columns."""

from statistics import median
from typing import Any

import jax
from ml_collections import ConfigDict

from alexnet_jax.benchmark.rates import Rates
from alexnet_jax.benchmark.start_up import StartUp
from alexnet_jax.cli.tables import text_table
from alexnet_jax.data import Split
from alexnet_jax.data.pipeline import is_held
from alexnet_jax.data.store import JpegRecords
from alexnet_jax.data.threads import THREADS
from alexnet_jax.nets.flops import flops_per_image
from alexnet_jax.nets.variants import resolve
from alexnet_jax.parallel import Devices
from alexnet_jax.runs.machine import processor, versions

MEGA = 1e6
LABELS = {  # of the keys in the JSON line, in the order of the table
    "step_images_per_second": "step on one batch on the device, images/s",
    "matmul_gflops": "roof: float32 matrix product, GFLOP/s",
    "roof_fraction": "step ÷ roof",
    "loader_images_per_second": "loader alone, images/s",
    "decoder_images_per_second": "JPEG decoder alone, on all cores, images/s",
    "loader_decoder_fraction": "loader ÷ decoder",
    "end_to_end_images_per_second": "step and loader together, images/s",
    "end_to_end_fraction": "together ÷ step",
    "torch_images_per_second": "PyTorch's step, images/s",
    "ratio": "step ÷ PyTorch's step",
    "torch_keeping_memory_images_per_second": "PyTorch's step keeping freed memory, images/s",
    "ratio_keeping_memory": "step ÷ PyTorch's step keeping freed memory",
    "torch_loader_images_per_second": "PyTorch's DataLoader of JPEG files, images/s",
    "torch_loader_ratio": "loader ÷ PyTorch's DataLoader",
    "first_step_seconds": "first step after the process starts, cold, s",
    "second_start_seconds": "first step with a full compilation cache, s",
    "peak_rss_mb": "peak resident memory of training, MB",
    "rss_growth_mb": "growth of memory between halves of a run, MB",
    "rss_steps": "steps in that run",
}
TITLE = """\
{model}, width {width:g}, {crop_size} pixels, batch {batch_size}; {gflop:.3f} GFLOP a training image
{devices} {device}: {processor}, {cores} cores
{images:,} training images of {image_size} pixels, {encoding}, {held}
matrix products at precision {matmul_precision}; {repeats} repeats"""


def circumstances(config: ConfigDict, split: Split, devices: Devices) -> dict[str, Any]:
    """Returns the net, the images and the machine of the measurements."""
    jpeg = isinstance(split.images, JpegRecords)
    net = resolve(config.model, config.data.crop_size)
    return {
        "model": config.model.name,
        "width": config.model.width,
        "crop_size": config.data.crop_size,
        "batch_size": config.data.batch_size,
        "training_flops_per_image": flops_per_image(net),
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


def start_up_measures(cold: StartUp, second: StartUp) -> dict[str, float]:
    """Returns the measurements of a cold and a second start, by their keys in the JSON line."""
    return {
        "first_step_seconds": cold.first_step,
        "second_start_seconds": second.first_step,
        "peak_rss_mb": second.peak / MEGA,
        "rss_growth_mb": second.growth / MEGA,
        "rss_steps": second.steps,
    }


def record(rates: Rates, once: dict[str, float], circumstances: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of the JSON line.

    Args:
      rates: measured in every repeat; the record has their medians, lowest and highest values.
      once: numbers that were measured once.
      circumstances: as the function of that name returns them.
    """
    medians = {name: rounded(median(values)) for name, values in rates.items()}
    spread = {name: [rounded(f(x)) for f in (min, max)] for name, x in rates.items()}
    repeats = len(next(iter(rates.values())))
    once = {name: rounded(value) for name, value in once.items()}
    return medians | once | circumstances | {"repeats": repeats, "spread": spread}


def rounded(value: float) -> float:
    """Returns the value with four significant digits."""
    return float(f"{value:.4g}")


def record_text(record: dict[str, Any]) -> str:
    """Returns the record as text: its circumstances, then a table of every number and its range."""
    rows = [("", "median", "lowest", "highest")]
    for key, label in LABELS.items():
        if key in record:
            numbers = (record[key], *record["spread"].get(key, ()))
            rows.append((label, *(f"{x:,.6g}" for x in numbers), *[""] * (3 - len(numbers))))
    held = "held on the device" if record["held_on_device"] else "read as they are needed"
    gflop = record["training_flops_per_image"] / 1e9
    return f"{TITLE.format(**record, held=held, gflop=gflop)}\n\n{text_table(rows)}"
