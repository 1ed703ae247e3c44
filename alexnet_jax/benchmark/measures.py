"""What is measured in turn, each by the name of its key in the JSON line; and their ratios."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.benchmark.jpegs import decoder_rate, jpegs, write_jpegs
from alexnet_jax.benchmark.rates import Rates, quotients
from alexnet_jax.benchmark.training import Training, roof
from alexnet_jax.data import Split
from alexnet_jax.data.store import JpegRecords
from alexnet_jax.data.threads import THREADS

STEP, LOADER, BOTH = (
    "step_images_per_second",
    "loader_images_per_second",
    "end_to_end_images_per_second",
)
ROOF, DECODER = "matmul_gflops", "decoder_images_per_second"
TORCH, TORCH_LOADER = "torch_images_per_second", "torch_loader_images_per_second"
TORCH_KEEPING = "torch_keeping_memory_images_per_second"
Measures = dict[str, Callable[[], float]]


def of_training(training: Training, split: Split, seconds: float) -> Measures:
    """The roof, the step, the loader, both, and for JPEGs their decoder; for so many seconds."""
    measures = {
        ROOF: partial(roof(training.devices), seconds),
        STEP: partial(training.on_device, seconds),
        LOADER: partial(training.loader, seconds),
        BOTH: partial(training.from_store, seconds),
    }
    if isinstance(split.images, JpegRecords):
        measures[DECODER] = partial(decoder_rate(jpegs(split), THREADS), seconds)
    return measures


def of_torch(
    config: ConfigDict, training: Training, split: Split, folder: Path, seconds: float
) -> Measures:
    """PyTorch's step from the same weights, and its loader of the split's images as JPEG files."""
    from alexnet_jax.benchmark.pytorch.loader import loader_rate
    from alexnet_jax.benchmark.pytorch.process import step_rate

    paths = write_jpegs(folder, jpegs(split))
    work = config, training.params(), THREADS, training.on_gpu
    data = config.data
    return {
        TORCH: partial(step_rate(*work, keep=False), seconds),
        TORCH_KEEPING: partial(step_rate(*work, keep=True), seconds),
        TORCH_LOADER: loader_rate(paths, data.crop_size, data.batch_size),
    }


def ratios(rates: Rates, flops_per_image: int) -> Rates:
    """Of what was measured in the same repeat."""
    roofs = [1e9 * gigaflops / flops_per_image for gigaflops in rates[ROOF]]
    found = {
        "roof_fraction": quotients(rates[STEP], roofs),
        "end_to_end_fraction": quotients(rates[BOTH], rates[STEP]),
    }
    if DECODER in rates:
        found["loader_decoder_fraction"] = quotients(rates[LOADER], rates[DECODER])
    if TORCH in rates:
        found["ratio"] = quotients(rates[STEP], rates[TORCH])
        found["ratio_keeping_memory"] = quotients(rates[STEP], rates[TORCH_KEEPING])
        found["torch_loader_ratio"] = quotients(rates[LOADER], rates[TORCH_LOADER])
    return found
