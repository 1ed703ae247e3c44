"""The training step, its batches and both together, in this process, beside the machine's roof."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from alexnet_jax.benchmark.rates import rate
from alexnet_jax.data import Dataset
from alexnet_jax.nets.variants import resolve
from alexnet_jax.parallel import REPLICATED, Devices, Layout
from alexnet_jax.plan.forecast import step_flops
from alexnet_jax.session import open_session

SIDE = 2048  # of the square matrices whose product is the roof
PRODUCTS = 8  # in one call, so that on a GPU the host is no part of it


class Training:
    """A run's step, state and batches. Rates are of all devices of config.parallel together.

    A padded batch at the end of an epoch counts like a full one.
    """

    def __init__(self, config: ConfigDict, dataset: Dataset) -> None:
        """Compiles the step and takes two, after which nothing is left to be made."""
        session = open_session(config, dataset)
        self.devices, self._images = session.devices, config.data.batch_size
        self.state, self._step = session.initial_state(), session.make_step()
        self._batches = session.batches(dataset.splits["train"], first_step=0)
        self._resident = next(self._batches)
        self.on_device(0.0)

    def on_device(self, seconds: float) -> float:
        """Images a second of the step on one batch that stays on the devices."""
        return rate(lambda: self._advanced(self._resident), self._images, seconds)

    def from_store(self, seconds: float) -> float:
        """Images a second of the step on batches from the data set, read ahead as in training.

        A first step is not counted: meanwhile the batches read ahead are as many as they will be.
        """
        jax.block_until_ready(self._advanced(next(self._batches)))
        return rate(lambda: self._advanced(next(self._batches)), self._images, seconds)

    def loader(self, seconds: float) -> float:
        """Images a second of the batches alone, shuffled and laid on the devices."""
        return rate(lambda: next(self._batches), self._images, seconds)

    def trace(self, folder: Path) -> None:
        """Writes a trace of a few steps from the store, by JAX's profiler."""
        with jax.profiler.trace(folder):
            self.from_store(0.0)

    def params(self) -> Any:
        """The parameters as they are now, as NumPy arrays."""
        return jax.device_get(self.state.params)

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on GPUs."""
        return self.devices.is_gpu

    def _advanced(self, batch: Any) -> Any:
        self.state, scalars = self._step(self.state, batch)
        return scalars


def flops_per_image(config: ConfigDict) -> int:
    """Of training: two a multiply-add, of the layers with weights.

    Three times the forward pass, less the gradient of the images, which nobody needs.
    """
    return step_flops(resolve(config.model, config.data.crop_size), Layout(), 1)


def roof(devices: Devices) -> Callable[[float], float]:
    """Returns a function that measures GFLOP/s of float32 matrix products on all devices at once.

    On NVIDIA GPUs from Ampere on they are TF32, as the step's are, unless JAX is configured
    otherwise.
    """

    def products(x: jax.Array, y: jax.Array) -> jax.Array:
        for _ in range(PRODUCTS):
            x = x @ y
        return x

    run = devices.compile(products, (REPLICATED, REPLICATED), REPLICATED)
    matrix = jax.random.normal(jax.random.key(0), (SIDE, SIDE)) / SIDE**0.5
    matrix = devices.replicate(matrix)
    amount = devices.mesh.size * PRODUCTS * 2 * SIDE**3 / 1e9
    jax.block_until_ready(run(matrix, matrix))
    return lambda seconds: rate(lambda: run(matrix, matrix), amount, seconds)
