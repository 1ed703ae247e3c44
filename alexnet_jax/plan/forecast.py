"""A step's time on machines that are not here: arithmetic, no measurement, no overlap.

Step time = FLOPs of the device that computes most ÷ its sustained FLOP/s
          + bytes that it sends ÷ what its link sustains.
FLOPs are those of the layers with weights: 2 × multiply-adds × 3 (forward, gradient of the input,
gradient of the weights), × 2 for the first layer, whose input needs none. Left out: norms, pooling,
the update, latency, and that communication can hide behind computation.
"""

import math
from dataclasses import dataclass

from alexnet_jax.errors import UserError
from alexnet_jax.nets.placement import check_layout, place, weighted
from alexnet_jax.nets.spec import Net
from alexnet_jax.parallel import Layout
from alexnet_jax.plan.traffic import expected_transfers, wire_bytes

SCHEMES = ("data", "tower", "hybrid")
DEVICES = tuple(2**i for i in range(10))  # 1 … 512
FLOAT = 4  # bytes of a float32


@dataclass(frozen=True)
class Machine:
    """One device: bytes a second that it sends while it receives as many, and FLOP/s, sustained."""

    link: float
    flops: float


@dataclass(frozen=True)
class Forecast:
    """One step: of which layout, of how many images in all, and what one device has to do for it.

    compute, link: seconds. sent: bytes.
    """

    layout: Layout
    batch: int
    compute: float
    sent: float
    link: float

    @property
    def seconds(self) -> float:
        """Of one step."""
        return self.compute + self.link

    @property
    def images_per_second(self) -> float:
        """Over all devices."""
        return self.batch / self.seconds


def step_flops(net: Net, layout: Layout, batch: int) -> int:
    """Returns the FLOPs of a step on one device; `batch` is that of all devices together.

    The classifier is replicated: along "tower" every device computes it for the same images, and in
    the hybrid scheme every device computes it for the whole batch.
    """
    total, passes = 0, 2  # the first layer's input, the images, needs no gradient
    for placed in weighted(net, layout).values():
        macs = placed.shape.macs * (batch if placed.units_split else batch // layout.data)
        if not placed.replicated:
            macs = macs // (layout.tower * placed.unit_shares)
        total, passes = total + 2 * macs * passes, 3
    return total


def parameter_bytes(net: Net, layout: Layout) -> int:
    """Returns the bytes of one device's parameters; the velocities take the same again."""
    return FLOAT * sum(
        math.prod(placed.shard_shape(array))
        for placed in weighted(net, layout).values()
        for array in (placed.shape.kernel, placed.shape.bias)
    )


def output_bytes(net: Net, layout: Layout, batch: int) -> int:
    """Returns the bytes of all layers' outputs on one device, which the backward pass reads."""
    return FLOAT * sum(placed.outputs(batch) for placed in place(net, layout))


def forecast(net: Net, layout: Layout, batch: int, machine: Machine) -> Forecast:
    """One step of `batch` images over all devices of the layout."""
    sent = wire_bytes(expected_transfers(net, layout, batch))
    compute = step_flops(net, layout, batch) / machine.flops
    return Forecast(layout, batch, compute, sent, sent / machine.link)


def scheme_layout(scheme: str, devices: int, net: Net) -> Layout | None:
    """How a scheme uses so many devices; None if this net cannot be divided so.

    Towers take as many devices as they can, data parallelism the rest.
    """
    towers = math.gcd(devices, net.towers) if scheme == "tower" else 1
    if scheme == "tower" and devices > 1 and towers == 1:
        return None
    layout = Layout(devices // towers, towers, scheme == "hybrid" and devices > 1)
    try:
        check_layout(layout, net, {})
    except UserError:
        return None
    return layout


def forecasts(net: Net, scheme: str, images: int, machine: Machine) -> list[Forecast]:
    """From 1 to 512 devices with `images` for each device (weak scaling), where it is possible."""
    layouts = (scheme_layout(scheme, devices, net) for devices in DEVICES)
    return [forecast(net, x, images * x.devices, machine) for x in layouts if x]


def efficiency(one: Forecast, alone: Forecast) -> float:
    """Images a second a device, relative to a device alone with its share of the batch."""
    return one.images_per_second / one.layout.devices / alone.images_per_second
