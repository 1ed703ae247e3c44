"""Devices and processes: the layout of the work, the mesh, and the communication on it.

Nothing in this folder depends on a net; `nets.placement` says where a net's parameters lie.
"""

from alexnet_jax.parallel.backends import force_cpu_devices, release_devices
from alexnet_jax.parallel.collectives import (
    PartIndex,
    example_indices,
    gather_batch,
    gather_labels,
    gather_rows,
    gather_towers,
    gather_units,
    own_units,
    part_rows,
    psum_batch,
    tower_indices,
)
from alexnet_jax.parallel.layout import Layout, layout_of
from alexnet_jax.parallel.mesh import (
    DATA,
    REPLICATED,
    TOWER,
    Devices,
    batch_spec,
    check_devices,
    make_devices,
)
from alexnet_jax.parallel.processes import (
    initialize_distributed,
    is_distributed,
    is_lead_process,
    reporting_folder,
)

__all__ = [
    "DATA",
    "REPLICATED",
    "TOWER",
    "Devices",
    "Layout",
    "PartIndex",
    "batch_spec",
    "check_devices",
    "example_indices",
    "force_cpu_devices",
    "gather_batch",
    "gather_labels",
    "gather_rows",
    "gather_towers",
    "gather_units",
    "initialize_distributed",
    "is_distributed",
    "is_lead_process",
    "layout_of",
    "make_devices",
    "own_units",
    "part_rows",
    "psum_batch",
    "release_devices",
    "reporting_folder",
    "tower_indices",
]
