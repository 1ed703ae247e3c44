"""The communication of a training step, by arithmetic on the sizes of the net's layers.

The activations' gathers are those of `nets.placement`, which the model performs. To them come the
all-reduces of gradients whose parameters lie on several devices, and a few sums. The tests compare
all of it with the compiled program.
"""

import math
from collections import Counter
from collections.abc import Iterable

from alexnet_jax.nets.placement import BATCH, param_specs, place, with_parameters
from alexnet_jax.nets.shapes import without_statistics
from alexnet_jax.nets.spec import BatchNorm, Dropout, Net
from alexnet_jax.parallel import DATA, TOWER, Layout
from alexnet_jax.plan.hlo import Transfer


def expected_transfers(net: Net, layout: Layout, batch: int, parts: int = 1) -> list[Transfer]:
    """Returns all transfers of a step.

    Args:
      net: resolved.
      layout: of the devices.
      batch: images over all devices.
      parts: number of parts that the batch is divided into (train.accumulate_steps).
    """
    return [
        *activation_transfers(net, layout, batch // parts) * parts,
        *index_transfers(net, layout, batch // parts) * parts,
        *moment_transfers(net, layout),
        *gradient_transfers(net, layout),  # once: gradients are summed over the parts first
        *sum_transfers(net, layout, batch),
    ]


def activation_transfers(net: Net, layout: Layout, batch: int) -> list[Transfer]:
    """Returns the gathers of layers' inputs, and the gradients that go back.

    Each gather is an all-gather of the input and a reduce-scatter of its gradient. A replicated
    layer needs no gradient from the other devices.
    """
    found = []
    for placed in place(net, layout):
        name = placed.shape.layer.name
        gathers = [gather for gather in placed.gathers if gather.devices > 1]
        for gather in gathers:
            array, what = gather.array(batch, layout), f"{name} input, {gather.of}"
            found += [Transfer("all-gather", gather.devices, array, what=what)] * gather.copies
        for gather in () if placed.replicated else gathers:  # see `collectives.gather_towers`
            array, what = gather.array(batch, layout), f"{name} input gradient"
            found += [Transfer("reduce-scatter", gather.devices, array, what=what)] * gather.copies
    return found


def index_transfers(net: Net, layout: Layout, batch: int) -> list[Transfer]:
    """Returns the gather of the images' places in the batch, in the hybrid scheme with dropout.

    A dropout mask is drawn by the image's place; in that scheme each device needs all places.
    """
    gathers = [gather.of for placed in place(net, layout) for gather in placed.gathers]
    drops = any(isinstance(layer, Dropout) for layer in net.layers)
    if not drops or BATCH not in gathers:
        return []
    return [Transfer("all-gather", layout.data, (batch,), what="places in the batch")]


def moment_transfers(net: Net, layout: Layout) -> list[Transfer]:
    """Returns the all-reduces of batch normalisation: the batch's moments and their gradients.

    The mean has two gradients: it is subtracted in the normalisation and in the variance.
    """
    sums = ("mean", "variance", "mean gradient", "mean gradient", "variance gradient")
    found = []
    for placed in place(net, layout):
        if isinstance(placed.shape.layer, BatchNorm) and placed.batch_split:
            maps, name = (placed.shape.per_tower,), placed.shape.layer.name
            of_tower = [Transfer("all-reduce", layout.data, maps, what=f"{name} {x}") for x in sums]
            # Each tower has moments of its own, and a device can hold several towers.
            found += of_tower * (net.towers // layout.tower)
    if found and layout.hybrid:  # the plain scheme has this sum already, for the loss
        found.append(Transfer("all-reduce", layout.data, (), what="images of the batch"))
    return found


def gradient_transfers(net: Net, layout: Layout) -> list[Transfer]:
    """Returns the all-reduces of the gradients of parameters that "data" devices have in common.

    The hybrid scheme's dense layers are not among them: every device sees the whole batch.
    """
    if layout.data == 1:
        return []
    found = []
    for name, placed in with_parameters(net, layout).items():
        if placed.units_split:  # no other device has these units, or each has the same gradient
            continue
        for what, array in placed.shape.learned.items():
            shard = placed.shard_shape(array)
            found.append(Transfer("all-reduce", layout.data, shard, what=f"{name} {what} gradient"))
    return found


def sum_transfers(net: Net, layout: Layout, batch: int) -> list[Transfer]:
    """Returns the transfers for the loss and the errors, and the all-reduces of the gradient norm.

    In the hybrid scheme each device gathers labels and mask and computes the loss of all images.
    Otherwise each computes that of its share, and loss, errors and number of images are summed.
    """
    found = []
    if layout.hybrid:
        found = [Transfer("all-gather", layout.data, (batch,), what=x) for x in ("labels", "mask")]
    elif layout.data > 1:
        sums = ("examples", "loss", "errors")
        found = [Transfer("all-reduce", layout.data, (), what=x) for x in sums]
    sizes = {DATA: layout.data, TOWER: layout.tower}
    learned = without_statistics(param_specs(net, layout))
    specs = (spec for layer in learned.values() for spec in layer.values())
    # Parameters that are divided along the same axes share one sum of squares. Replicated ones, (),
    # need none: each device has all of them.
    for axes in sorted({tuple(axis for axis in spec if axis) for spec in specs} - {()}):
        group = math.prod(sizes[axis] for axis in axes)
        found.append(Transfer("all-reduce", group, (), what="gradient norm"))
    return found


def wire_bytes(transfers: Iterable[Transfer]) -> float:
    """Returns the bytes that one device sends in a step."""
    return sum(transfer.wire_bytes for transfer in transfers)


def key(transfer: Transfer) -> tuple[str, int, int, int]:
    """Returns the key to match transfers by; it has no shape, because XLA may reshape arrays."""
    return transfer.kind, transfer.group, transfer.elements, transfer.itemsize


def agree(compiled: Iterable[Transfer], expected: Iterable[Transfer]) -> bool:
    """True if the same arrays are moved in the same ways the same number of times."""
    return Counter(map(key, compiled)) == Counter(map(key, expected))
