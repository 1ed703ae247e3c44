"""A forecast of the step's time on other machines, by arithmetic.

Step time = FLOPs of one device ÷ its sustained FLOP/s
          + bytes that it sends ÷ its link's sustained bytes per second.

The FLOPs are those of `nets.flops`, the bytes those of `plan.traffic`. Left out are norms, pooling,
the update, latency, and that communication can overlap with computation.
"""

import math
from dataclasses import dataclass

from alexnet_jax.errors import UserError
from alexnet_jax.nets.flops import step_flops
from alexnet_jax.nets.placement import check_layout
from alexnet_jax.nets.spec import Net
from alexnet_jax.parallel import Layout
from alexnet_jax.plan.traffic import expected_transfers, wire_bytes

SCHEMES = ("data", "tower", "hybrid")
DEVICES = tuple(2**i for i in range(10))  # 1 … 512


@dataclass(frozen=True)
class Machine:
    """Sustained rates of one device.

    Attributes:
      link: bytes per second that it sends while it receives as many.
      flops: FLOP per second in the layers with weights.
    """

    link: float
    flops: float


@dataclass(frozen=True)
class Forecast:
    """The predicted time of one step.

    Attributes:
      layout: of the devices.
      batch: images over all devices.
      compute: seconds that one device computes.
      sent: bytes that one device sends.
      link: seconds that sending takes.
    """

    layout: Layout
    batch: int
    compute: float
    sent: float
    link: float

    @property
    def seconds(self) -> float:
        """Returns the time of the step in seconds."""
        return self.compute + self.link

    @property
    def images_per_second(self) -> float:
        """Returns the images per second over all devices."""
        return self.batch / self.seconds


def forecast(net: Net, layout: Layout, batch: int, machine: Machine) -> Forecast:
    """Returns the forecast of one step of `batch` images over all devices of the layout."""
    sent = wire_bytes(expected_transfers(net, layout, batch))
    compute = step_flops(net, layout, batch) / machine.flops
    return Forecast(layout, batch, compute, sent, sent / machine.link)


def scheme_layout(scheme: str, devices: int, net: Net) -> Layout | None:
    """Returns the layout of a scheme on this many devices; None if the net cannot be divided so.

    Scheme "data" divides the batch. Scheme "tower" divides the towers over as many devices as it
    can, and the batch over the rest. Scheme "hybrid" divides the batch in the convolutions and the
    units in the dense layers ("One weird trick", 2014).
    """
    towers = math.gcd(devices, net.towers) if scheme == "tower" else 1
    if scheme == "tower" and devices > 1 and towers == 1:  # it would be scheme data
        return None
    layout = Layout(devices // towers, towers, scheme == "hybrid" and devices > 1)
    try:
        check_layout(layout, net, {})  # no batch: it grows with the devices and divides over them
    except UserError:
        return None
    return layout


def forecasts(net: Net, scheme: str, images: int, machine: Machine) -> list[Forecast]:
    """Returns the forecasts for 1 to 512 devices with `images` for each device (weak scaling).

    Numbers of devices that the net does not divide over are left out.
    """
    layouts = (scheme_layout(scheme, devices, net) for devices in DEVICES)
    return [forecast(net, x, images * x.devices, machine) for x in layouts if x]


def efficiency(one: Forecast, alone: Forecast) -> float:
    """Returns the images per second of one of the devices ÷ those of a device that works alone."""
    return one.images_per_second / one.layout.devices / alone.images_per_second
