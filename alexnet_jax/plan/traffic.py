"""What a training step has to communicate, by arithmetic on the sizes of the net's layers.

It follows parallel.py and train.py: exchanges between towers, the hybrid scheme's gathers before
dense layers, the gradients of what several devices hold alike, and a few sums. plan.py checks it
against the compiled program.
"""

from collections import Counter
from collections.abc import Iterable

from alexnet_jax.nets.shapes import LayerShape, walk
from alexnet_jax.nets.zoo import WEIGHTED, Dense, Net
from alexnet_jax.parallel import DATA, TOWER, Layout, local_shape, param_specs
from alexnet_jax.plan.hlo import Transfer


def expected_transfers(net: Net, layout: Layout, batch: int, parts: int = 1) -> list[Transfer]:
    """All that a step communicates; `batch` is that of all devices, worked through in `parts`."""
    return [
        *activation_transfers(net, layout, batch // parts) * parts,
        *gradient_transfers(net, layout),
        *sum_transfers(net, layout, batch),
    ]


def activation_transfers(net: Net, layout: Layout, batch: int) -> list[Transfer]:
    """What layers read from other devices, and the gradients that go back to them."""
    found: list[Transfer] = []
    below, wide = (), False  # the layer below's output; a hybrid dense layer came before
    for shape in walk(net, net.crop):
        if isinstance(shape.layer, WEIGHTED):
            if below:  # the first layer reads the images, which every device has
                found += _reads(shape, below, wide, net, layout, batch)
            wide = wide or (layout.hybrid and isinstance(shape.layer, Dense))
        below = shape.out
    return found


def _reads(
    shape: LayerShape, below: tuple[int, ...], wide: bool, net: Net, layout: Layout, batch: int
) -> list[Transfer]:
    """All-gathers of what one layer reads, and reduce-scatters of the gradient with respect to it.

    A layer that all devices compute alike needs no gradient from the others.
    """
    here = net.towers // layout.tower
    hybrid_dense = layout.hybrid and isinstance(shape.layer, Dense)
    gathers: list[tuple[str, int, tuple[int, ...], int]] = []  # of what, group, array, how many
    if hybrid_dense and wide:
        gathers.append(("all units", layout.data, (batch, below[-1] // net.towers), here))
    if shape.exchanged and layout.tower > 1:
        rows = batch if wide else batch // layout.data
        gathers.append(("all towers", layout.tower, (rows, *below), 1))
    if hybrid_dense and not wide:
        maps, copies = (below[-1], 1) if shape.exchanged else (below[-1] // net.towers, here)
        gathers.append(("whole batch", layout.data, (batch, *below[:-1], maps), copies))
    whole = getattr(shape.layer, "whole", False)
    kinds = [("all-gather", "input")] + [("reduce-scatter", "input gradient")] * (not whole)
    return [
        Transfer(kind, group, array, what=f"{shape.layer.name} {what}, {of_what}")
        for kind, what in kinds
        for of_what, group, array, copies in gathers
        for _ in range(copies)
    ]


def gradient_transfers(net: Net, layout: Layout) -> list[Transfer]:
    """Gradients of the parameters that the devices along "data" hold alike, their towers stacked.

    The hybrid scheme's dense layers are not among them: their units are split, and the classifier
    is computed alike, for the whole batch, on every device.
    """
    if layout.data == 1:
        return []
    found = []
    for shape in walk(net, net.crop):
        if not shape.kernel or (layout.hybrid and isinstance(shape.layer, Dense)):
            continue
        for name, array in (("kernel", shape.kernel), ("bias", shape.bias)):
            here = local_shape(array, shape.layer, layout)
            what = f"{shape.layer.name} {name} gradient"
            found.append(Transfer("all-reduce", layout.data, here, what=what))
    return found


def sum_transfers(net: Net, layout: Layout, batch: int) -> list[Transfer]:
    """Loss, errors and examples, the gradient's norm, and the hybrid scheme's labels and mask."""
    found = []
    if layout.hybrid:
        found = [Transfer("all-gather", layout.data, (batch,), what=x) for x in ("labels", "mask")]
    elif layout.data > 1:
        sums = ("examples", "loss", "errors")
        found = [Transfer("all-reduce", layout.data, (), what=x) for x in sums]
    sizes = {DATA: layout.data, TOWER: layout.tower}
    specs = (spec for layer in param_specs(net, layout).values() for spec in layer.values())
    for axes in sorted({tuple(axis for axis in spec if axis) for spec in specs} - {()}):
        group = 1
        for axis in axes:
            group *= sizes[axis]
        found.append(Transfer("all-reduce", group, (), what="gradient norm"))
    return found


def wire_bytes(transfers: Iterable[Transfer]) -> float:
    """Bytes that one device sends in a step."""
    return sum(transfer.wire_bytes for transfer in transfers)


def key(transfer: Transfer) -> tuple[str, int, int, int]:
    """What tells transfers apart in the compiled program, where arrays may have changed shape."""
    return transfer.kind, transfer.group, transfer.elements, transfer.itemsize


def agree(compiled: Iterable[Transfer], expected: Iterable[Transfer]) -> bool:
    """True if the same arrays are moved in the same ways, as often."""
    return Counter(map(key, compiled)) == Counter(map(key, expected))
