"""The layout: the numbers of devices that the batch and the towers are divided over."""

from dataclasses import dataclass

from ml_collections import ConfigDict


@dataclass(frozen=True)
class Layout:
    """A division of the work over data × tower devices.

        tower →   0          1
      data 0   device 0   device 1     each row holds one share of the batch,
      data 1   device 2   device 3     each column one share of the towers

    Attributes:
      data: devices that the batch is divided over.
      tower: devices that the towers are divided over (paper §3.2: two GPUs, one tower each).
      hybrid: True divides the units of dense layers over the `data` devices, each of which then
        sees the whole batch (Krizhevsky, "One weird trick", arXiv 1404.5997).
    """

    data: int = 1
    tower: int = 1
    hybrid: bool = False

    @property
    def devices(self) -> int:
        """Returns the number of devices in use."""
        return self.data * self.tower


def layout_of(parallel: ConfigDict) -> Layout:
    """Returns the layout that config.parallel describes."""
    is_hybrid = {"plain": False, "hybrid": True}[parallel.scheme]
    return Layout(parallel.data, parallel.tower, is_hybrid)
