"""How fast the compiled convolutions are by themselves: the bound of every step built of them.

Command:   python results/speed/convolutions.py > results/speed/convolutions.md

Of each net's convolutions at batch 128, all towers one after the other as in the step: the forward
pass and both gradients, each compiled alone. At the end each net's rate if there were nothing else.
"""

from collections.abc import Callable, Iterator
from typing import Any

from alexnet_jax import environment

BATCH, SECONDS = 128, 1.0
NETS = {
    "alexnet": 224,
    "cuda_convnet_18pct": 32,
    "cuda_convnet_13pct": 24,
    "cuda_convnet_11pct": 24,
}


def milliseconds(work: Callable[..., Any], *inputs: Any) -> float:
    """Of a call of the compiled function, one after the other, each result forgotten at once."""
    import jax

    from alexnet_jax.benchmark.rates import rate

    run = jax.jit(work)

    def call() -> None:
        jax.block_until_ready(run(*inputs))

    call()
    return 1000 / rate(call, 1, SECONDS)


def passes(layer: Any, side: int, kernel_shape: tuple[int, ...]) -> list[float]:
    """Milliseconds of all towers: forward, gradient by the input, gradient by the kernel."""
    import jax

    from alexnet_jax.nets import ops
    from alexnet_jax.nets.shapes import window_places

    over = ops.overhang(side, window_places(side, layer), layer.size, layer.stride, layer.padding)
    key, (towers, *one) = jax.random.key(0), kernel_shape
    x = jax.random.normal(key, (BATCH, side, side, one[2]))
    kernel, bias = jax.random.normal(key, one), jax.numpy.zeros(one[3])

    def forward(x: Any, kernel: Any) -> Any:
        how = {"stride": layer.stride, "padding": layer.padding, "over": over}
        return ops.conv(x, kernel, bias, **how)

    def by_input(x: Any, kernel: Any, g: Any) -> Any:
        return jax.vjp(lambda x: forward(x, kernel), x)[1](g)

    def by_kernel(x: Any, kernel: Any, g: Any) -> Any:
        return jax.vjp(lambda kernel: forward(x, kernel), kernel)[1](g)

    g = jax.jit(forward)(x, kernel)
    inner = milliseconds(by_input, x, kernel, g) if one[2] > 3 else 0.0  # images need no gradient
    found = milliseconds(forward, x, kernel), inner, milliseconds(by_kernel, x, kernel, g)
    return [towers * x for x in found]


def of_net(name: str, crop: int) -> Iterator[tuple[str, list[float], float]]:
    """Each convolution of a net: its name, the milliseconds of its passes, their multiply-adds."""
    from alexnet_jax.nets.shapes import walk
    from alexnet_jax.nets.variants import resolve
    from alexnet_jax.nets.zoo import Conv
    from configs import base

    config, read = base.get_config().model, (crop, crop, 3)
    config.name, config.width, config.num_classes = name, 1.0, 10
    for shape in walk(resolve(config, crop), crop):
        if isinstance(shape.layer, Conv):
            found = passes(shape.layer, read[0], shape.kernel)
            yield shape.layer.name, found, BATCH * shape.macs * sum(x > 0 for x in found)
        read = shape.out


def main() -> None:
    """Prints a table of all convolutions, then a line a net."""
    environment.keep_freed_memory()
    environment.set_cpu_flags()
    from alexnet_jax import parallel
    from alexnet_jax.benchmark.training import roof

    product, sums = roof(parallel.make_mesh(parallel.Layout())), dict.fromkeys(NETS, 0.0)
    print("| net | layer | forward ms | by input ms | by kernel ms | GFLOP/s | ÷ product's |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for net, crop in NETS.items():
        for layer, found, macs in of_net(net, crop):
            sums[net] += sum(found)
            cells = " | ".join(f"{x:.1f}" if x else "–" for x in found)
            speed = 2 * macs / sum(found) / 1e6
            print(f"| {net} | {layer} | {cells} | {speed:.0f} | {speed / product(0.5):.2f} |")
    print("\n| net | all convolutions, ms a batch | images/s if there were nothing else |")
    print("|---|--:|--:|")
    for net, total in sums.items():
        print(f"| {net} | {total:.0f} | {1000 * BATCH / total:,.0f} |")


if __name__ == "__main__":
    main()
