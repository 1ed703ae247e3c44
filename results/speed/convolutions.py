"""How fast the compiled convolutions are by themselves: the bound of every step built of them.

Command:   python results/speed/convolutions.py > results/speed/convolutions.md

Of each net's convolutions at batch 128, all towers one after the other as in the step: the forward
pass and both gradients, each compiled alone. Beside them what is left of the step once they are
taken off it, and the step's rate if nothing were left.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from alexnet_jax import environment

BATCH, SECONDS = 128, 1.0
NETS = {
    "alexnet": 224,
    "cuda_convnet_18pct": 32,
    "cuda_convnet_13pct": 24,
    "cuda_convnet_11pct": 24,
}


def milliseconds(work: Callable[..., Any], *inputs: Any) -> float:
    """Of a call of the compiled function, at least two of them."""
    import jax

    run = jax.jit(work)
    jax.block_until_ready(run(*inputs))
    begun = time.perf_counter()
    for calls in range(1, 10**9):
        jax.block_until_ready(run(*inputs))
        spent = time.perf_counter() - begun
        if calls > 1 and spent > SECONDS:
            return 1000 * spent / calls


def passes(layer: Any, side: int, kernel_shape: tuple[int, ...]) -> list[float]:
    """Milliseconds of all towers: forward, gradient by the input, gradient by the kernel."""
    import jax

    from alexnet_jax import layers
    from alexnet_jax.shapes import window_places

    over = layers.overhang(
        side, window_places(side, layer), layer.size, layer.stride, layer.padding
    )
    key, (towers, *one) = jax.random.key(0), kernel_shape
    x = jax.random.normal(key, (BATCH, side, side, one[2]))
    kernel, bias = jax.random.normal(key, one), jax.numpy.zeros(one[3])

    def forward(x: Any, kernel: Any) -> Any:
        how = {"stride": layer.stride, "padding": layer.padding, "over": over}
        return layers.conv(x, kernel, bias, **how)

    def by_input(x: Any, kernel: Any, g: Any) -> Any:
        return jax.vjp(lambda x: forward(x, kernel), x)[1](g)

    def by_kernel(x: Any, kernel: Any, g: Any) -> Any:
        return jax.vjp(lambda kernel: forward(x, kernel), kernel)[1](g)

    g = jax.jit(forward)(x, kernel)
    inner = milliseconds(by_input, x, kernel, g) if one[2] > 3 else 0.0  # images need no gradient
    found = milliseconds(forward, x, kernel), inner, milliseconds(by_kernel, x, kernel, g)
    return [towers * x for x in found]


def main() -> None:
    """Prints a table of all convolutions, then a line a net."""
    environment.keep_freed_memory()
    environment.set_cpu_flags()
    from alexnet_jax import parallel
    from alexnet_jax.architectures import Conv
    from alexnet_jax.benchmarking.training import roof
    from alexnet_jax.shapes import walk
    from alexnet_jax.variants import resolve
    from configs import base

    product = roof(parallel.make_mesh(parallel.Layout()))
    config, sums = base.get_config().model, {}
    config.width, config.num_classes = 1.0, 10
    print("| net | layer | forward ms | by input ms | by kernel ms | GFLOP/s | ÷ product's |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for name, crop in NETS.items():
        config.name, read, sums[name] = name, (crop, crop, 3), 0.0
        for shape in walk(resolve(config, crop), crop):
            if isinstance(shape.layer, Conv):
                found = passes(shape.layer, read[0], shape.kernel)
                flops = 2 * BATCH * shape.macs * sum(x > 0 for x in found)
                rate, sums[name] = flops / sum(found) / 1e6, sums[name] + sum(found)
                cells = " | ".join(f"{x:.1f}" if x else "–" for x in found)
                of_roof = rate / product(0.5)
                print(f"| {name} | {shape.layer.name} | {cells} | {rate:.0f} | {of_roof:.2f} |")
            read = shape.out
    print("\n| net | all convolutions, ms a batch | images/s if there were nothing else |")
    print("|---|--:|--:|")
    for name, total in sums.items():
        print(f"| {name} | {total:.0f} | {1000 * BATCH / total:,.0f} |")


if __name__ == "__main__":
    main()
