"""The plan in words: what the compiled step sends and holds, and the forecasts."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from alexnet_jax.nets.spec import Net
from alexnet_jax.nets.variants import resolve
from alexnet_jax.parallel import Layout, layout_of
from alexnet_jax.plan.forecast import (
    DEVICES,
    SCHEMES,
    Forecast,
    Machine,
    efficiency,
    forecast,
    forecasts,
    output_bytes,
    parameter_bytes,
)
from alexnet_jax.plan.hlo import Transfer, read_transfers
from alexnet_jax.plan.traffic import agree, expected_transfers, key, wire_bytes

RINGS = """\
What one device sends in a step, read off the compiled program. As rings do it among n devices, of
an array of S bytes: all-gather and reduce-scatter S (n − 1)/n, all-reduce 2 S (n − 1)/n."""
MODEL = """\
Forecast, weak scaling: {images} images for each device, as in the 2014 paper, so the batch grows
with the devices. Step = compute + link, without overlap. Compute: 2 × multiply-adds × 3 (× 2 in the
first layer) at {tflops:g} sustained TFLOP/s. Link: the bytes that a device sends, at {link:g} GB/s.
Left out: norms, pooling, the update, latency, the input. The classifier is whole on every device;
hybrid computes it on each for the whole batch. Efficiency: images/s a device ÷ those of one alone.
Bytes: the formulas of the table above; only the marked layout was compiled, with a batch of
{images} over all its devices."""


def report(config: ConfigDict, compiled: Any, state: Any, machine: Machine) -> str:
    """All that `plan` prints of a compiled step (jax.stages.Compiled) and its abstract state."""
    net, layout = resolve(config.model, config.data.crop_size), layout_of(config.parallel)
    batch, parts = config.data.batch_size, config.train.accumulate_steps
    return "\n\n".join(
        (
            _title(net, layout, batch, parts),
            communication(
                read_transfers(compiled.as_text()), expected_transfers(net, layout, batch, parts)
            ),
            _held(net, layout, batch // parts, compiled, state),
            _this_step(forecast(net, layout, batch, machine)),
            forecast_table(net, batch, machine, layout),
        )
    )


def _title(net: Net, layout: Layout, batch: int, parts: int) -> str:
    scheme = "hybrid" if layout.hybrid else "plain"
    return (
        f"Compiled for {layout.devices} device(s): parallel.data={layout.data}, "
        f"tower={layout.tower}, scheme={scheme}; {net.towers} tower(s); "
        f"a batch of {batch} over all devices, in {parts} part(s)."
    )


def communication(found: Sequence[Transfer], expected: Sequence[Transfer]) -> str:
    """The table of what is sent, and whether the arithmetic says the same.

    Arrays that are moved alike share a row; their names are the arithmetic's, where it knows them.
    """
    names, rows = defaultdict(list), defaultdict(list)
    for transfer in expected:
        names[key(transfer)].append(transfer.what)
    for transfer in found:
        rows[key(transfer)].append(transfer)
    header = ("collective", "devices", "array", "of", "bytes each", "number", "bytes sent")
    table = [header, *(_row(alike, names[each]) for each, alike in rows.items())]
    sent, said = wire_bytes(found), wire_bytes(expected)
    verdict = "the same arrays" if agree(found, expected) else "NOT the same arrays"
    operations = len({transfer.name for transfer in found})
    return "\n".join(
        (
            RINGS,
            columns(table, left=4),
            f"Sum: {sent:,.0f} bytes by {operations} collectives; XLA puts several arrays in one.",
            f"By arithmetic on the layers' sizes: {said:,.0f} bytes, {verdict}.",
        )
    )


def _row(alike: Sequence[Transfer], names: Sequence[str]) -> tuple[str, ...]:
    first = alike[0]
    shapes = dict.fromkeys("×".join(map(str, x.shape)) or "one number" for x in alike)
    called = dict.fromkeys(names) or {first.what: None}
    return (
        first.kind,
        str(first.group),
        " or ".join(shapes),
        "; ".join(called),
        f"{first.elements * first.itemsize:,}",
        str(len(alike)),
        f"{wire_bytes(alike):,.0f}",
    )


def _held(net: Net, layout: Layout, images: int, compiled: Any, state: Any) -> str:
    """What one device holds: by the state's shardings, by arithmetic, by the compiler.

    images: worked on at once, on all devices.
    """
    temporary = compiled.memory_analysis().temp_size_in_bytes
    rows = (
        ("parameters", local_bytes(state.params), f"whole net {parameter_bytes(net, Layout()):,}"),
        ("velocities", local_bytes(state.opt_state), "the optimizer's state"),
        ("activations", output_bytes(net, layout, images), "outputs of all layers, by arithmetic"),
        (
            "temporaries",
            temporary,
            "activations, gradients, …: XLA's count for this program on CPU",
        ),
    )
    table = [(name, f"{size:,}", note) for name, size, note in rows]
    return "What one device holds, in bytes:\n" + columns(table, left=1, last_left=True)


def local_bytes(tree: Any) -> int:
    """Bytes that one device holds of the arrays of a tree, by their shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _this_step(one: Forecast) -> str:
    return (
        f"A step of this program by the model below: {1e3 * one.compute:.3f} ms compute + "
        f"{1e3 * one.link:.3f} ms link = {1e3 * one.seconds:.3f} ms, "
        f"{one.images_per_second:,.0f} images/s."
    )


def forecast_table(net: Net, images: int, machine: Machine, compiled: Layout) -> str:
    """The three schemes on 1 to 512 devices with `images` for each; `compiled` is marked."""
    header = ("scheme", "devices", "data×tower", "batch", "compute ms", "MB sent", "link ms")
    rows = [(*header, "step ms", "images/s", "efficiency", "")]
    alone = forecast(net, Layout(), images, machine)
    notes = []
    for scheme in SCHEMES:
        found = forecasts(net, scheme, images, machine)
        rows += [_forecast_row(scheme, x, efficiency(x, alone), compiled) for x in found]
        missing = sorted({*DEVICES} - {x.layout.devices for x in found})
        if missing:
            notes.append(f"{scheme}: this net does not divide over {', '.join(map(str, missing))}.")
    text = MODEL.format(images=images, tflops=machine.flops / 1e12, link=machine.link / 1e9)
    return "\n".join((text, columns(rows, left=1), *notes))


def _forecast_row(scheme: str, one: Forecast, share: float, compiled: Layout) -> tuple[str, ...]:
    return (
        scheme,
        str(one.layout.devices),
        f"{one.layout.data}×{one.layout.tower}",
        str(one.batch),
        f"{1e3 * one.compute:.3f}",
        f"{one.sent / 1e6:.2f}",
        f"{1e3 * one.link:.3f}",
        f"{1e3 * one.seconds:.3f}",
        f"{one.images_per_second:,.0f}",
        f"{share:.3f}",
        "← layout compiled above" if one.layout == compiled else "",
    )


def columns(rows: Iterable[Sequence[str]], left: int, last_left: bool = False) -> str:
    """A table of these rows: the first `left` columns flush left, the others right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    flush = [*range(left), *[len(widths) - 1] * last_left]
    lines = (
        "  ".join(
            cell.ljust(width) if place in flush else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
