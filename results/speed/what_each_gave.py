"""Measures what each change to the step gave: the full-size step with one of them undone at a time.

Command:   PYTHONPATH=. python results/speed/what_each_gave.py > results/speed/what_each_gave.md

Each variant runs in a process of its own, on one batch of 128 that stays on the device. The step
with all changes is measured first and last. Each measurement of the step is followed by one of the
float32 matrix product, because the speed of a shared machine changes by more than some of the
changes gave. The peak of the resident memory includes compilation. At the end stand the passes that
XLA's profiler names, without and with the changes; it does not look into the convolutions.
"""

import collections
import gzip
import json
import operator
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from alexnet_jax.cli.tables import markdown_table

SECONDS, REPEATS, PASSES = 6, 3, 16
IMAGES = 512  # of the synthetic data set
CHANGES = {
    "flags": "XLA's flags (`environment.CPU_FLAGS`)",
    "keep": "freed memory kept (`environment.keep_freed_memory`)",
    "one": "one step at a time (`parallel.Devices.one_at_a_time`)",
    "norm": "LRN with a gradient of its own, by square roots (`ops.response_norm`)",
    "pool": "max pooling one axis after the other, own gradient (`pooling.max_pool`)",
    "bias": "the bias's gradient as a product with ones (`ops.add_bias`)",
}


def undo(changes: set[str]) -> None:
    """Undoes these changes in this process, which must not have used jax yet."""
    from alexnet_jax import environment, parallel
    from alexnet_jax.nets import ops, pooling

    if "flags" in changes:
        os.environ["XLA_FLAGS"] = ""
    if "keep" not in changes:
        environment.keep_freed_memory()
    if "one" in changes:
        parallel.Devices.one_at_a_time = lambda devices, function: function
    if "norm" in changes:
        ops.response_norm = plain_norm
    if "pool" in changes:
        pooling.max_pool = plain_pool
    if "bias" in changes:
        ops.add_bias = operator.add


def plain_norm(
    x: Any, axes: tuple[int, ...], size: int, k: float, alpha: float, beta: float
) -> Any:
    """Returns `ops.response_norm` as one reduce_window, with jax's own gradient."""
    from jax import lax

    window = [size if axis in axes else 1 for axis in range(4)]
    total = lax.reduce_window(x * x, 0.0, lax.add, window, (1,) * 4, "SAME")
    return x * (k + alpha * total) ** -beta


def plain_pool(x: Any, *, size: int, stride: int, over: int) -> Any:
    """Returns `pooling.max_pool` as one reduce_window, with jax's own gradient."""
    import jax.numpy as jnp
    from jax import lax

    edges = ((0, 0), (0, over), (0, over), (0, 0))
    window, strides = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, edges)


def measure(changes: set[str]) -> dict[str, Any]:
    """Measures the step without these changes.

    Returns:
      rate and range in images/s, of_roof: FLOPs ÷ those of the matrix product, peak in MB, and
      passes: (name, ms a step).
    """
    undo(changes)
    from alexnet_jax.benchmark.training import Training, matmul_rate
    from alexnet_jax.data import open_dataset
    from alexnet_jax.nets.flops import flops_per_image
    from alexnet_jax.nets.variants import resolve
    from configs import imagenet

    config = imagenet.get_config()
    config.data.name, config.data.synthetic_images = "synthetic", IMAGES
    config.data.synthetic_classes = config.model.num_classes = 1000
    training = Training(config, open_dataset(config.data))
    product = matmul_rate(training.devices)
    pairs = [(training.step_rate(SECONDS), 1e9 * product(1.0)) for _ in range(REPEATS)]
    rates = [rate for rate, _ in pairs]
    flops = flops_per_image(resolve(config.model, config.data.crop_size))
    return {
        "rate": median(rates),
        "range": [min(rates), max(rates)],
        "of_roof": median(rate * flops / roof for rate, roof in pairs),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "passes": longest_passes(training),
    }


def longest_passes(training: Any) -> list[tuple[str, float]]:
    """Returns the longest passes of a step by XLA's profiler: (name, ms a step)."""
    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            training.step_rate(0.0)  # two steps
        (file,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    passes: dict[str, float] = collections.Counter()
    for event in events:
        name = event.get("name", "")
        if event.get("ph") == "X" and not name.startswith(("$", "Thunk", "Pjit")):
            passes[name.partition(".")[0]] += event["dur"] / 1000 / 2
    return sorted(passes.items(), key=lambda x: -x[1])[:PASSES]


def main() -> None:
    """Measures the variant that the argument names; without one all of them, and prints tables."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(set(sys.argv[1].split(",")) - {""})))
        return
    every, none = "all of them", "none of them"
    variants = {every: "", **{f"without: {x}": name for name, x in CHANGES.items()}}
    variants |= {none: ",".join(CHANGES), "all of them, again": ""}
    found = {}
    rows = [("step", "÷ roof", "images/s", "lowest … highest", "peak MB")]
    for label, undone in variants.items():
        command = [sys.executable, __file__, undone]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[label] = x = json.loads(done.stdout.splitlines()[-1])
        low, high = x["range"]
        rates = (f"{x['of_roof']:.3f}", f"{x['rate']:.1f}", f"{low:.1f} … {high:.1f}")
        rows.append((label, *rates, f"{x['peak']:,.0f}"))
    print(markdown_table(rows))
    for label in (none, every):
        passes = [(f"`{name}`", f"{ms:.0f}") for name, ms in found[label]["passes"]]
        print(f"\nPasses with {label}, ms a step (two cores work at once):\n")
        print(markdown_table([("pass", "ms"), *passes]))


if __name__ == "__main__":
    main()
