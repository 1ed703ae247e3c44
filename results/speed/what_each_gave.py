"""What each change to the step gave: the full-size step with one of them undone at a time.

Command:   python results/speed/what_each_gave.py > results/speed/what_each_gave.md

Each variant is a process of its own, on one batch of 128 that stays on the device; the whole is
measured first and last. In turn with the step the float32 product of two matrices is, for a
shared machine's mood changes by more than some of the changes gave. Beside them stands the most
memory that was resident, compilation included. At the end the passes that XLA's profiler names,
before and after; it does not see into the convolutions.
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

SECONDS, REPEATS, PASSES = 6, 3, 16
CHANGES = {
    "flags": "XLA's flags (`environment.CPU_FLAGS`)",
    "keep": "freed memory kept (`environment.keep_freed_memory`)",
    "one": "one step at a time (`parallel.one_at_a_time`)",
    "norm": "LRN with a gradient of its own, by square roots (`ops.response_norm`)",
    "pool": "max pooling one way after the other, own gradient (`pooling.max_pool`)",
    "bias": "the bias's gradient as a product with ones (`ops.add_bias`)",
}


def undo(changes: set[str]) -> None:
    """Takes these changes back in this process, before jax has begun."""
    from alexnet_jax import environment, parallel
    from alexnet_jax.nets import ops, pooling

    if "flags" in changes:
        os.environ["XLA_FLAGS"] = ""
    if "keep" not in changes:
        environment.keep_freed_memory()
    if "one" in changes:
        parallel.one_at_a_time = lambda run, mesh: run
    if "norm" in changes:
        ops.response_norm = plain_norm
    if "pool" in changes:
        pooling.max_pool = plain_pool
    if "bias" in changes:
        ops.add_bias = operator.add


def plain_norm(
    x: Any, axes: tuple[int, ...], size: int, k: float, alpha: float, beta: float
) -> Any:
    """As one would write it, with jax's own gradient."""
    from jax import lax

    window = [size if axis in axes else 1 for axis in range(4)]
    total = lax.reduce_window(x * x, 0.0, lax.add, window, (1,) * 4, "SAME")
    return x * (k + alpha * total) ** -beta


def plain_pool(x: Any, *, size: int, stride: int, over: int) -> Any:
    """A reduce_window, with jax's own gradient."""
    import jax.numpy as jnp
    from jax import lax

    edges = ((0, 0), (0, over), (0, over), (0, 0))
    window, strides = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, edges)


def measured(changes: set[str]) -> dict[str, Any]:
    """Images a second, MB at the peak, and ms a step of each pass, without these changes."""
    undo(changes)
    import jax

    from alexnet_jax.benchmark.training import Training, flops_per_image, roof
    from alexnet_jax.data import open_dataset
    from configs import imagenet

    config = imagenet.get_config()
    config.data.name, config.data.synthetic_images = "synthetic", 512
    config.data.synthetic_classes = config.model.num_classes = 1000
    training = Training(config, open_dataset(config.data))
    product = roof(training.mesh)
    pairs = [(training.on_device(SECONDS), 1e9 * product(1.0)) for _ in range(REPEATS)]
    rates = [rate for rate, _ in pairs]
    of_roof = median(rate * flops_per_image(config) / flops for rate, flops in pairs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            training.on_device(0.0)  # two steps
        (file,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    passes: dict[str, float] = collections.Counter()
    for event in events:
        name = event.get("name", "")
        if event.get("ph") == "X" and not name.startswith(("$", "Thunk", "Pjit")):
            passes[name.partition(".")[0]] += event["dur"] / 1000 / 2
    top = sorted(passes.items(), key=lambda x: -x[1])[:PASSES]
    found = {"rate": median(rates), "range": [min(rates), max(rates)], "of_roof": of_roof}
    return found | {"peak": peak, "passes": top}


def main() -> None:
    """Measures one variant if it is told which, else has every one measured and prints a table."""
    if len(sys.argv) > 1:
        print(json.dumps(measured(set(sys.argv[1].split(",")) - {""})))
        return
    whole, none = "all of them", "none of them"
    variants = {whole: "", **{f"without: {x}": name for name, x in CHANGES.items()}}
    variants |= {none: ",".join(CHANGES), "all of them, again": ""}
    found = {}
    print("| step | ÷ roof | images/s | lowest … highest | peak MB |\n|---|--:|--:|--:|--:|")
    for label, undone in variants.items():
        command = [sys.executable, __file__, undone]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[label] = x = json.loads(done.stdout.splitlines()[-1])
        low, high = x["range"]
        numbers = f"{x['of_roof']:.3f} | {x['rate']:.1f} | {low:.1f} … {high:.1f}"
        print(f"| {label} | {numbers} | {x['peak']:,.0f} |", flush=True)
    for label in (none, whole):
        print(f"\nPasses with {label}, ms a step (two cores work at once):\n\n| pass | ms |")
        print("|---|--:|")
        for name, milliseconds in found[label]["passes"]:
            print(f"| `{name}` | {milliseconds:.0f} |")


if __name__ == "__main__":
    main()
