"""The PyTorch twin in a process of its own, which does not inherit our memory settings."""

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.environment import keep_freed_memory

_rate: Callable[[float], float]  # in the child process, after _prepare


def step_rate(
    config: ConfigDict,
    params: Mapping[str, Mapping[str, np.ndarray]],
    threads: int,
    on_gpu: bool,
    *,
    keep: bool,
) -> Callable[[float], float]:
    """Returns a function that measures the twin's step in images per second.

    Its argument is the shortest duration in seconds.

    Args:
      config: resolved.
      params: NumPy arrays, {layer: {"kernel", "bias"}}.
      threads: of PyTorch.
      on_gpu: the step runs on a GPU if PyTorch sees one.
      keep: the process keeps freed memory, as our commands do. PyTorch by itself does not.
    """
    # spawn, because a fork would inherit this process's settings of memory and its XLA threads.
    pool = ProcessPoolExecutor(1, get_context("spawn"), keep_freed_memory if keep else None)
    pool.submit(_prepare, config, params, threads, on_gpu).result()  # not timed
    return lambda seconds: pool.submit(_measure, seconds).result()


def _prepare(*work: object) -> None:
    from alexnet_jax.benchmark.pytorch import twin

    global _rate
    _rate = twin.step_rate(*work)


def _measure(seconds: float) -> float:
    return _rate(seconds)
