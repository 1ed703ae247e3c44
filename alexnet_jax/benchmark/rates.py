"""Interleaved timing: every quantity is measured in each repeat.

A drift of the machine's speed then affects all quantities equally.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

MIN_CALLS = 2  # in a measurement, however long they take

Rates = dict[str, list[float]]  # one number for each repeat


def rate(
    work: Callable[[], Any],
    amount: float,
    seconds: float,
    wait: Callable[[Any], Any] = jax.block_until_ready,
) -> float:
    """Returns the throughput of `work` in `amount` per second, timed for at least `seconds`.

    Each result is waited for after the next call has started, as in the training loop.

    Args:
      work: is called again and again.
      amount: units of work in one call.
      seconds: shortest duration of the measurement.
      wait: blocks until a result of `work` is computed.
    """
    start, last = time.perf_counter(), work()
    for calls in itertools.count(2):  # from 2, as one call is under way before the loop
        last, before = work(), last
        wait(before)
        if calls >= MIN_CALLS and time.perf_counter() - start >= seconds:
            wait(last)
            return calls * amount / (time.perf_counter() - start)


def interleave(measures: Mapping[str, Callable[[], float]], repeats: int) -> Rates:
    """Returns the results of every measurement, each taken once in each of `repeats` rounds."""
    rates: Rates = {name: [] for name in measures}
    for _ in range(repeats):
        for name, measure in measures.items():
            rates[name].append(measure())
    return rates


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Returns the element-wise ratios of two quantities, one for each repeat."""
    return [a / b for a, b in zip(above, below, strict=True)]
