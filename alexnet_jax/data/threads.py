"""A pool of threads whose results keep the order of the work."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")


def cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        # os.cpu_count() would count all cores of the machine, even in a container or a SLURM job.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


THREADS = cores()


def in_order(work: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """Yields work(item) for each item, in order, computed by one thread per core.

    At most `ahead` items are submitted beyond the one whose result is awaited, which bounds the
    memory. Raises whatever `work` raises.
    """
    pool, waiting, wait = ThreadPoolExecutor(THREADS), deque(), True
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except GeneratorExit:
        # The garbage collector may close an abandoned iterator while its thread holds a lock of
        # `threading`. To join the pool's threads would then wait for that lock for ever.
        wait = False
        raise
    finally:
        # After an error, or if the iterator is abandoned: the work left over is in vain.
        pool.shutdown(wait=wait, cancel_futures=True)
