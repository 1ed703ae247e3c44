"""The measurements of a benchmark, by their keys in the JSON line, and their ratios."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.benchmark.jpegs import decoder_rate, jpegs, write_jpegs
from alexnet_jax.benchmark.rates import Rates, ratios
from alexnet_jax.benchmark.training import Training, matmul_rate
from alexnet_jax.data import Split
from alexnet_jax.data.store import JpegRecords
from alexnet_jax.data.threads import THREADS

STEP, LOADER, END_TO_END = (
    "step_images_per_second",
    "loader_images_per_second",
    "end_to_end_images_per_second",
)
MATMUL, DECODER = "matmul_gflops", "decoder_images_per_second"
TORCH, TORCH_LOADER = "torch_images_per_second", "torch_loader_images_per_second"
TORCH_KEEPING = "torch_keeping_memory_images_per_second"
Measures = dict[str, Callable[[], float]]


def training_measures(training: Training, split: Split, seconds: float) -> Measures:
    """Returns the measurements of the matrix product, the step, the loader and both together.

    If the split holds JPEGs, their decoder is measured too. Each measurement takes at least
    `seconds` and returns GFLOP/s for the product, images/s for the others.
    """
    measures = {
        MATMUL: partial(matmul_rate(training.devices), seconds),
        STEP: partial(training.step_rate, seconds),
        LOADER: partial(training.loader_rate, seconds),
        END_TO_END: partial(training.end_to_end_rate, seconds),
    }
    if isinstance(split.images, JpegRecords):
        measures[DECODER] = partial(decoder_rate(jpegs(split), THREADS), seconds)
    return measures


def torch_measures(
    config: ConfigDict, training: Training, split: Split, folder: Path, seconds: float
) -> Measures:
    """Returns the measurements of PyTorch's step from the same weights, and of its loader.

    All are in images/s. The loader reads the split's images as JPEG files, which are written to
    `folder`.
    """
    from alexnet_jax.benchmark.pytorch.loader import loader_rate
    from alexnet_jax.benchmark.pytorch.process import step_rate

    paths = write_jpegs(folder, jpegs(split))
    work = config, training.params(), THREADS, training.devices.is_gpu
    data = config.data
    return {
        TORCH: partial(step_rate(*work, keep=False), seconds),
        TORCH_KEEPING: partial(step_rate(*work, keep=True), seconds),
        TORCH_LOADER: loader_rate(paths, data.crop_size, data.batch_size),
    }


def derived_ratios(rates: Rates, flops_per_image: int) -> Rates:
    """Returns the ratios between quantities of the same repeat, by their keys in the JSON line."""
    # The images/s of a step that consists of nothing but matrix products.
    roofs = [1e9 * gigaflops / flops_per_image for gigaflops in rates[MATMUL]]
    found = {
        "roof_fraction": ratios(rates[STEP], roofs),
        "end_to_end_fraction": ratios(rates[END_TO_END], rates[STEP]),
    }
    if DECODER in rates:
        found["loader_decoder_fraction"] = ratios(rates[LOADER], rates[DECODER])
    if TORCH in rates:
        found["ratio"] = ratios(rates[STEP], rates[TORCH])
        found["ratio_keeping_memory"] = ratios(rates[STEP], rates[TORCH_KEEPING])
        found["torch_loader_ratio"] = ratios(rates[LOADER], rates[TORCH_LOADER])
    return found
