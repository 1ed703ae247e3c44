"""The devices of a run: their mesh, and the placement of arrays on it.

The mesh has the axes ("data", "tower"). Per-device functions run on it under `jax.shard_map`,
which also checks that a result declared replicated is the same on every device. The axes are of
type Auto: with Explicit axes JAX's convolutions raise for shardings that they do not support.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alexnet_jax.errors import UserError
from alexnet_jax.parallel.layout import Layout
from alexnet_jax.parallel.processes import is_lead_process

Array = jax.Array
DATA, TOWER = "data", "tower"
REPLICATED = P()
PAUSE = 0.001  # on a CPU, the wait after a step, as a fraction of the step's duration


@dataclass(frozen=True)
class Devices:
    """The devices of a run and the layout of the work on them."""

    mesh: Mesh
    layout: Layout

    @property
    def is_cpu(self) -> bool:
        """True if the devices are CPUs."""
        return self.mesh.devices.flat[0].platform == "cpu"

    @property
    def is_gpu(self) -> bool:
        """True if the devices are GPUs."""
        return self.mesh.devices.flat[0].platform == "gpu"

    @property
    def kind(self) -> str:
        """Returns the model of the devices, as JAX names it: "cpu", or a GPU's product name."""
        return self.mesh.devices.flat[0].device_kind

    def sharding(self, spec: P) -> NamedSharding:
        """Returns the sharding of an array with this partition spec."""
        return NamedSharding(self.mesh, spec)

    def compile(
        self, function: Callable[..., Any], in_specs: Any, out_specs: Any, **jit: Any
    ) -> Callable[..., Any]:
        """Returns a per-device function, jitted to run on all devices.

        Args:
          function: takes one device's shards of the arguments, and returns its shard of the result.
          in_specs, out_specs: trees of partition specs of the arguments and of the result.
          jit: further arguments of `jax.jit`.
        """
        mapped = jax.shard_map(function, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs)
        return jax.jit(mapped, **jit)

    def one_at_a_time(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function, which on CPUs then waits until its result is ready.

        On a CPU, overlapping two steps gains nothing and doubles the peak memory.
        """
        if not self.is_cpu:
            return function

        def run_and_wait(*inputs: Any) -> Any:
            start = time.perf_counter()
            result = jax.block_until_ready(function(*inputs))
            # A thread of XLA frees the step's buffers just after the result is ready.
            time.sleep(PAUSE * (time.perf_counter() - start))
            return result

        return run_and_wait

    def init(self, make: Callable[[], Any], specs: Any) -> Callable[[], Any]:
        """Returns `make`, jitted so that each device creates only its own shard of the result."""
        return jax.jit(make, out_shardings=jax.tree.map(self.sharding, specs))

    def replicate(self, tree: Any) -> Any:
        """Copies a tree of arrays onto every device; every process must pass the same values."""
        sharding = self.sharding(REPLICATED)

        def put(x: Any) -> Array:
            # device_put would first compare the values between the processes, by communication.
            return jax.make_array_from_process_local_data(sharding, np.asarray(x), np.shape(x))

        return jax.tree.map(put, tree)

    def process_slice(self, batch_size: int) -> slice:
        """Returns the rows of every batch that this process's devices need.

        Args:
          batch_size: images in the whole batch.
        """
        sharding = self.sharding(batch_spec(self.layout))
        parts = sharding.addressable_devices_indices_map((batch_size,)).values()
        # slice.indices also resolves the open slice of a batch that is not divided.
        bounds = [part[0].indices(batch_size) for part in parts]
        return slice(min(start for start, *_ in bounds), max(stop for _, stop, _ in bounds))

    def shard(self, tree: Any, batch_size: int) -> Any:
        """Divides the arrays of a batch over the devices.

        Args:
          tree: arrays with the whole batch along axis 0, or with the rows of `process_slice`.
          batch_size: images in the whole batch.
        """
        if self.is_cpu and self.mesh.size == 1:
            # A compiled function reads host memory in a tenth of the time of a device_put.
            return tree
        sharding = self.sharding(batch_spec(self.layout))
        if jax.process_count() == 1:
            return jax.device_put(tree, sharding)

        def put(x: Array | np.ndarray) -> Array:
            shape = (batch_size, *x.shape[1:])
            return jax.make_array_from_process_local_data(sharding, np.asarray(x), shape)

        return jax.tree.map(put, tree)

    def agree(self, text: str) -> bool:
        """True if all processes of the run call this with the same text."""
        if jax.process_count() == 1:
            return True
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1  # int32
        # A list, so that both maxima are always computed: the other processes wait for each.
        largest = [self.max_over_processes(lambda x=x: x)() for x in (number, -number)]
        return largest == [number, -number]

    def max_over_processes(self, read: Callable[[], int]) -> Callable[[], int]:
        """Starts to compute the maximum of read() over all processes; returns a function for it.

        All processes get the same maximum at the same step, and so act on it together: a process
        that stopped by itself would leave the others waiting in their next collective.

        With several processes, `read` is called at once. The devices compute the maximum beside the
        next training step, so that the returned function does not have to wait. With a single
        process, the returned function is `read` itself.
        """
        if jax.process_count() == 1:
            return read
        # One number per device, because an array lies on devices and not on processes.
        own = np.full(len(self.mesh.local_devices), read(), np.int32)
        numbers = jax.make_array_from_process_local_data(
            self.sharding(P((DATA, TOWER))), own, (self.mesh.size,)
        )
        largest = jax.jit(jnp.max, out_shardings=self.sharding(REPLICATED))(numbers)
        return lambda: int(largest)


def make_devices(layout: Layout) -> Devices:
    """Returns the first devices in the form of the layout; prints which stay unused."""
    # jax lists the devices of a process one after the other, so its rows of a batch are one slice.
    available = jax.devices()
    used, unused = available[: layout.devices], available[layout.devices :]
    if unused and is_lead_process():
        print(f"not used: {', '.join(map(str, unused))}; see config.parallel", flush=True)
    grid = np.array(used).reshape(layout.data, layout.tower)
    return Devices(Mesh(grid, (DATA, TOWER), axis_types=(AxisType.Auto,) * 2), layout)


def check_devices(layout: Layout) -> None:
    """Raises UserError if the devices are too few for the layout, or a process has none of them."""
    if layout.devices > jax.device_count():
        raise UserError(
            f"parallel.data={layout.data} × parallel.tower={layout.tower} needs {layout.devices} "
            f"devices, but there are {jax.device_count()}; JAX_NUM_CPU_DEVICES={layout.devices} "
            "makes as many of a CPU"
        )
    # The first devices are used (`make_devices`), and jax lists them process by process.
    used = {device.process_index for device in jax.devices()[: layout.devices]}
    if len(used) < jax.process_count():
        raise UserError(
            f"parallel.data={layout.data} × parallel.tower={layout.tower} uses {layout.devices} of "
            f"{jax.device_count()} devices, which leaves some of the {jax.process_count()} "
            "processes without one; raise parallel.data, or start fewer processes"
        )


def batch_spec(layout: Layout) -> P:
    """Returns the partition spec of a batch: divided along its first axis."""
    return P(DATA) if layout.data > 1 else REPLICATED
