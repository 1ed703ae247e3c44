"""Rates that are measured in turn, so that a machine's moods meet all of them alike."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

FEWEST = 2  # calls in a measurement, however long they take

Rates = dict[str, list[float]]  # one number a repeat


def rate(
    work: Callable[[], Any],
    amount: float,
    seconds: float,
    wait: Callable[[Any], Any] = jax.block_until_ready,
) -> float:
    """How much of `amount` a call `work` does in a second, over at least so many seconds.

    A result is waited for when the next call is under way, as the training loop does it.
    """
    begun, last = time.perf_counter(), work()
    for calls in itertools.count(2):
        last, before = work(), last
        wait(before)
        if calls >= FEWEST and time.perf_counter() - begun >= seconds:
            wait(last)
            return calls * amount / (time.perf_counter() - begun)


def in_turn(measures: Mapping[str, Callable[[], float]], repeats: int) -> Rates:
    """Every rate measured `repeats` times: first each of them once, then each again."""
    rates: Rates = {name: [] for name in measures}
    for _ in range(repeats):
        for name, measure in measures.items():
            rates[name].append(measure())
    return rates


def quotients(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Their ratios, repeat by repeat."""
    return [a / b for a, b in zip(above, below, strict=True)]
