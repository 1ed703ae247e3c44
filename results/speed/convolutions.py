"""Measures the compiled convolutions alone: an upper bound for every step that is built of them.

Command:   PYTHONPATH=. python results/speed/convolutions.py > results/speed/convolutions.md

Measures each net's convolutions at batch 128, all towers one after the other as in the step. The
forward pass and both gradients are compiled and timed alone. A last table has the rate of each net
if its steps were nothing but these convolutions.
"""

from collections.abc import Callable, Iterator
from typing import Any

from alexnet_jax import environment
from alexnet_jax.cli.tables import markdown_table

BATCH, SECONDS = 128, 1.0
NETS = {  # name: pixels of the crop
    "alexnet": 224,
    "cuda_convnet_18pct": 32,
    "cuda_convnet_13pct": 24,
    "cuda_convnet_11pct": 24,
}
HEADER = ("net", "layer", "forward ms", "by input ms", "by kernel ms", "GFLOP/s", "÷ product's")


def milliseconds(work: Callable[..., Any], *inputs: Any) -> float:
    """Returns the duration of one call of the compiled function; calls do not overlap."""
    import jax

    from alexnet_jax.benchmark.rates import rate

    run = jax.jit(work)

    def call() -> None:
        jax.block_until_ready(run(*inputs))

    call()
    return 1000 / rate(call, 1, SECONDS)


def passes(layer: Any, side: int, kernel_shape: tuple[int, ...]) -> list[float]:
    """Returns the milliseconds of the forward pass, the input's gradient and the kernel's.

    Args:
      layer: a Conv.
      side: of its input in pixels.
      kernel_shape: (towers, size, size, inputs, features). The times are of all towers.
    """
    import jax

    from alexnet_jax.nets import ops
    from alexnet_jax.nets.shapes import overhang

    key, (towers, *one) = jax.random.key(0), kernel_shape
    x = jax.random.normal(key, (BATCH, side, side, one[2]))
    kernel, bias = jax.random.normal(key, one), jax.numpy.zeros(one[3])
    form = {"stride": layer.stride, "padding": layer.padding, "over": overhang(side, layer)}

    def forward(x: Any, kernel: Any) -> Any:
        return ops.conv(x, kernel, bias, **form)

    def by_input(x: Any, kernel: Any, g: Any) -> Any:
        return jax.vjp(lambda x: forward(x, kernel), x)[1](g)

    def by_kernel(x: Any, kernel: Any, g: Any) -> Any:
        return jax.vjp(lambda kernel: forward(x, kernel), kernel)[1](g)

    g = jax.jit(forward)(x, kernel)
    inner = milliseconds(by_input, x, kernel, g) if one[2] > 3 else 0.0  # images need no gradient
    found = milliseconds(forward, x, kernel), inner, milliseconds(by_kernel, x, kernel, g)
    return [towers * x for x in found]


def convolutions(name: str, crop: int) -> Iterator[tuple[str, list[float], float]]:
    """Yields each convolution of a net: its name, the milliseconds of its passes, multiply-adds."""
    from alexnet_jax.nets.shapes import layer_shapes
    from alexnet_jax.nets.spec import Conv
    from alexnet_jax.nets.variants import resolve
    from configs import base

    model = base.get_config().model
    model.name, model.width, model.num_classes = name, 1.0, 10
    for shape in layer_shapes(resolve(model, crop), crop):
        if isinstance(shape.layer, Conv):
            found = passes(shape.layer, shape.reads[0], shape.kernel)
            yield shape.layer.name, found, BATCH * shape.macs * sum(x > 0 for x in found)


def main() -> None:
    """Prints a table of all convolutions, then a table of the nets."""
    environment.keep_freed_memory()
    environment.set_cpu_flags()
    from alexnet_jax import parallel
    from alexnet_jax.benchmark.training import matmul_rate

    product = matmul_rate(parallel.make_devices(parallel.Layout()))
    rows, sums = [HEADER], dict.fromkeys(NETS, 0.0)
    for net, crop in NETS.items():
        for layer, found, macs in convolutions(net, crop):
            sums[net] += sum(found)
            times = (f"{x:.1f}" if x else "–" for x in found)
            speed = 2 * macs / sum(found) / 1e6
            rows.append((net, layer, *times, f"{speed:.0f}", f"{speed / product(0.5):.2f}"))
    print(markdown_table(rows, left=2))
    rows = [("net", "all convolutions, ms a batch", "images/s if a step had nothing else")]
    rows += [(net, f"{ms:.0f}", f"{1000 * BATCH / ms:,.0f}") for net, ms in sums.items()]
    print(f"\n{markdown_table(rows)}")


if __name__ == "__main__":
    main()
