"""Rates of the training step, its batches, both together, and the machine's matrix product."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from alexnet_jax.benchmark.rates import rate
from alexnet_jax.data import Dataset
from alexnet_jax.parallel import REPLICATED, Devices
from alexnet_jax.train.session import open_session

SIDE = 2048  # of the square matrices
PRODUCTS = 8  # in one call, so that launching a call on a GPU does not count


class Training:
    """The step, state and batches of a run, timed in this process.

    All rates are in images per second, over all devices of config.parallel. A padded batch at the
    end of an epoch counts as a full one.
    """

    def __init__(self, config: ConfigDict, dataset: Dataset) -> None:
        """Compiles the step and takes two, so that no measurement includes a first call."""
        session = open_session(config, dataset)
        self.devices, self._images = session.devices, config.data.batch_size
        self.state, self._step = session.initial_state(), session.make_step()
        self._batches = session.batches(dataset.splits["train"], first_step=0)
        self._resident = next(self._batches)
        self.step_rate(0.0)  # two calls: the first compiles

    def step_rate(self, seconds: float) -> float:
        """Measures the step on one batch that stays on the devices."""
        return rate(lambda: self._advance(self._resident), self._images, seconds)

    def end_to_end_rate(self, seconds: float) -> float:
        """Measures the step on batches from the data set, which are read ahead as in training.

        A first step is not timed. It fills the queue of batches that are read ahead.
        """
        jax.block_until_ready(self._advance(next(self._batches)))
        return rate(lambda: self._advance(next(self._batches)), self._images, seconds)

    def loader_rate(self, seconds: float) -> float:
        """Measures the batches alone: shuffled, read, and moved to the devices."""
        return rate(lambda: next(self._batches), self._images, seconds)

    def trace(self, folder: Path) -> None:
        """Writes a trace of a few steps on batches from the data set, by JAX's profiler."""
        with jax.profiler.trace(folder):
            self.end_to_end_rate(0.0)

    def params(self) -> Any:
        """Returns the current parameters as NumPy arrays."""
        return jax.device_get(self.state.params)

    def _advance(self, batch: Any) -> Any:
        # The step takes the state's buffers for its result (donation), so the old state is lost.
        self.state, scalars = self._step(self.state, batch)
        return scalars


def matmul_rate(devices: Devices) -> Callable[[float], float]:
    """Returns a function that measures the float32 matrix product in GFLOP/s.

    The product of two 2048×2048 matrices runs on all devices at once. Its argument is the shortest
    duration in seconds. On NVIDIA GPUs from Ampere on the product runs in TF32, as the step's do,
    unless JAX is configured otherwise.
    """

    def products(x: jax.Array, y: jax.Array) -> jax.Array:
        for _ in range(PRODUCTS):  # a chain: XLA can neither merge the products nor drop one
            x = x @ y
        return x

    run = devices.compile(products, (REPLICATED, REPLICATED), REPLICATED)
    # Scaled, so that the product of eight of them neither overflows nor vanishes.
    matrix = jax.random.normal(jax.random.key(0), (SIDE, SIDE)) / SIDE**0.5
    matrix = devices.replicate(matrix)
    amount = devices.mesh.size * PRODUCTS * 2 * SIDE**3 / 1e9
    jax.block_until_ready(run(matrix, matrix))
    return lambda seconds: rate(lambda: run(matrix, matrix), amount, seconds)
