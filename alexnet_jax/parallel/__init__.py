"""Devices: the mesh, what lies where, the exchange between towers. No other file names them.

The mesh has the axes ("data", "tower"). Along "tower" each device holds its share of the towers,
as the paper's two GPUs did (§3.2); along "data" each has its share of the batch. The scheme
"hybrid" is Krizhevsky's of 2014: convolutions split the batch, dense layers split their units over
the same devices and see the whole batch. A function runs on the mesh under `jax.shard_map`, which
checks that what is claimed equal on all devices is.
"""

import atexit
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from alexnet_jax.errors import MISTAKE, UserError
from alexnet_jax.nets.shapes import LayerShape, walk
from alexnet_jax.nets.zoo import LRN, Dense, Net

Array = jax.Array
Part = tuple[int, int]  # (i, n): the i-th of n equal parts of each device's share of the batch
DATA, TOWER = "data", "tower"
EVERYWHERE = P()  # the same on every device
HEARTBEAT = 30  # seconds after which a process that is gone is noticed
PAUSE = 0.001  # of a call's own time
GRACE = 60  # seconds by which jax's own time to connect is longer than ours
_WHO = ("coordinator_address", "num_processes", "process_id")


@dataclass(frozen=True)
class Layout:
    """How many devices share the batch and the towers; hybrid: dense layers split their units."""

    data: int = 1
    tower: int = 1
    hybrid: bool = False

    @property
    def devices(self) -> int:
        """Devices in use."""
        return self.data * self.tower


def layout_of(parallel: ConfigDict) -> Layout:
    """The layout that config.parallel asks for."""
    return Layout(parallel.data, parallel.tower, parallel.scheme == "hybrid")


def check_layout(layout: Layout, net: Net, batch_sizes: dict[str, int]) -> None:
    """Raises UserError unless this net and these batches can be divided so over these devices."""
    if layout.hybrid and layout.data == 1:
        raise UserError("parallel.scheme='hybrid' divides over parallel.data, which is 1; raise it")
    if net.towers % layout.tower:
        raise UserError(
            f"parallel.tower={layout.tower} does not divide the net's {net.towers} tower(s); "
            f"use a divisor, or another model.towers"
        )
    if layout.tower > 1 and any(isinstance(x, LRN) and x.across_towers for x in net.layers):
        raise UserError(
            f"parallel.tower={layout.tower}, but this net's norms read over the border between "
            "towers; use parallel.tower=1"
        )
    for key, size in batch_sizes.items():
        if size % layout.data:
            raise UserError(
                f"{key}={size} does not divide over parallel.data={layout.data}; use a multiple"
            )
    for layer in net.layers if layout.hybrid else ():
        split = isinstance(layer, Dense) and not layer.whole
        if split and layer.features // net.towers % layout.data:
            raise UserError(
                f"{layer.name}'s {layer.features // net.towers} units a tower do not divide "
                f"over parallel.data={layout.data} in the hybrid scheme; use a divisor"
            )


def check_devices(layout: Layout) -> None:
    """Raises UserError if there are fewer devices than the layout needs."""
    if layout.devices > jax.device_count():
        raise UserError(
            f"parallel.data={layout.data} × parallel.tower={layout.tower} needs {layout.devices} "
            f"devices, but there are {jax.device_count()}; JAX_NUM_CPU_DEVICES={layout.devices} "
            "makes as many of a CPU"
        )


def make_mesh(layout: Layout) -> Mesh:
    """A mesh of the first devices; those that stay unused are named in one line."""
    devices = jax.devices()
    used, unused = devices[: layout.devices], devices[layout.devices :]
    if unused and is_first_process():
        print(f"not used: {', '.join(map(str, unused))}; see config.parallel", flush=True)
    grid = np.array(used).reshape(layout.data, layout.tower)
    return Mesh(grid, (DATA, TOWER), axis_types=(AxisType.Auto,) * 2)


def param_specs(net: Net, layout: Layout) -> dict[str, dict[str, P]]:
    """Where every parameter lies: its tower axis over "tower", hybrid dense units over "data".

    The classifier is whole on every device.
    """
    tower = TOWER if layout.tower > 1 else None

    def specs(shape: LayerShape) -> dict[str, P]:
        if getattr(shape.layer, "whole", False):
            return {"kernel": P(), "bias": P()}
        if layout.hybrid and isinstance(shape.layer, Dense):
            return {"kernel": P(tower, None, DATA), "bias": P(tower, DATA)}
        return {"kernel": P(tower), "bias": P(tower)}

    shapes = (shape for shape in walk(net, net.crop) if shape.kernel)
    return {shape.layer.name: specs(shape) for shape in shapes}


def local_shape(shape: tuple[int, ...], layer: Any, layout: Layout) -> tuple[int, ...]:
    """What one device holds of a parameter of this shape."""
    if getattr(layer, "whole", False):
        return shape
    split = layout.data if layout.hybrid and isinstance(layer, Dense) else 1
    return (shape[0] // layout.tower, *shape[1:-1], shape[-1] // split)


def batch_spec(layout: Layout) -> P:
    """Batches are divided along their first axis."""
    return P(DATA) if layout.data > 1 else P()


def on_mesh(
    function: Callable[..., Any], mesh: Mesh, in_specs: Any, out_specs: Any, **jit: Any
) -> Callable[..., Any]:
    """The per-device function, run on all devices of the mesh and compiled."""
    return jax.jit(
        jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs), **jit
    )


def one_at_a_time(run: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """The function; on CPUs it returns when its work is done and its memory free for the next call.

    Two calls under way at once win nothing on a CPU, and hold the memory of both. The memory is
    given back by a thread of XLA's just after the result is there, hence the moment's pause.
    """
    if not on_cpu(mesh):
        return run

    def run_and_wait(*inputs: Any) -> Any:
        begun = time.perf_counter()
        result = jax.block_until_ready(run(*inputs))
        time.sleep(PAUSE * (time.perf_counter() - begun))
        return result

    return run_and_wait


def device_kind(mesh: Mesh) -> str:
    """What its devices are called."""
    return mesh.devices.flat[0].device_kind


def on_cpu(mesh: Mesh) -> bool:
    """Whether its devices are CPUs."""
    return mesh.devices.flat[0].platform == "cpu"


def on_gpu(mesh: Mesh) -> bool:
    """Whether its devices are GPUs."""
    return mesh.devices.flat[0].platform == "gpu"


def born_on(make: Callable[[], Any], mesh: Mesh, specs: Any) -> Callable[[], Any]:
    """The function, compiled so that each device makes only its own part of the result."""
    where = jax.tree.map(
        lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda x: isinstance(x, P)
    )
    return jax.jit(make, out_shardings=where)


def everywhere(tree: Any, mesh: Mesh) -> Any:
    """The arrays of a tree, the same in every process, whole on every device."""
    sharding = NamedSharding(mesh, EVERYWHERE)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x), np.shape(x)), tree
    )


def share(mesh: Mesh, layout: Layout, batch_size: int) -> slice:
    """The part of every batch that this process's devices need."""
    sharding = NamedSharding(mesh, batch_spec(layout))
    parts = sharding.addressable_devices_indices_map((batch_size,)).values()
    bounds = [part[0].indices(batch_size) for part in parts]
    return slice(min(start for start, *_ in bounds), max(stop for _, stop, _ in bounds))


def put_batch(tree: Any, mesh: Mesh, layout: Layout, batch_size: int) -> Any:
    """Arrays of a batch, whole or this process's share of it, divided over the mesh.

    For a single CPU they stay as they are: a compiled function takes them from where they lie in a
    tenth of the time that it takes to put them anywhere first.
    """
    if on_cpu(mesh) and mesh.size == 1:
        return tree
    sharding = NamedSharding(mesh, batch_spec(layout))
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def put(x: Array | np.ndarray) -> Array:
        shape = (batch_size, *x.shape[1:])
        return jax.make_array_from_process_local_data(sharding, np.asarray(x), shape)

    return jax.tree.map(put, tree)


def highest(read: Callable[[], int], mesh: Mesh) -> Callable[[], int]:
    """The highest number that any process reads, so that all of them act alike.

    Several processes read now, in step, and fetch the answer when the result is called: by then
    the devices have long found it. A single process reads when the result is called.
    """
    if jax.process_count() == 1:
        return read
    sharding = NamedSharding(mesh, P((DATA, TOWER)))
    mine = np.full(len(mesh.local_devices), read(), np.int32)
    given = jax.make_array_from_process_local_data(sharding, mine, (mesh.size,))
    top = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, EVERYWHERE))(given)
    return lambda: int(top)


def is_one_of_several() -> bool:
    """True if this process has joined others; asking this starts no device."""
    return jax.distributed.is_initialized()


def is_first_process() -> bool:
    """True for the one process that writes and tells; the others only compute."""
    return jax.process_index() == 0


def reporting_folder(workdir: Path) -> Path:
    """Where this process writes metrics: the workdir, or a folder that nobody reads."""
    if is_first_process():
        return workdir
    folder = Path(tempfile.mkdtemp(prefix="alexnet_jax-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def join(coordinator: str, processes: int, process: int, timeout: int) -> None:
    """Makes this process one of several, by these flags or as SLURM says.

    Args:
      coordinator: host:port of process 0; empty = alone, or as the variables of SLURM's srun say.
      processes, process: how many there are, and which this one is.
      timeout: seconds to wait for the others.

    Raises:
      UserError: the flags are wrong, or not all processes arrived in time.
    """
    slurm = "SLURM_STEP_NODELIST" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1
    if not coordinator and not slurm:
        return
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from us
    which = _checked(coordinator, processes, process) if coordinator else {}
    faults: list[Exception] = []

    def connect() -> None:
        try:
            jax.distributed.initialize(
                **which,
                initialization_timeout=timeout + GRACE,
                heartbeat_timeout_seconds=HEARTBEAT,
            )
        except Exception as fault:
            faults.append(fault)

    # In a thread, since jax answers the end of its own time by aborting with a stack trace.
    connecting = threading.Thread(target=connect, daemon=True)
    connecting.start()
    try:
        connecting.join(timeout)
    except KeyboardInterrupt:
        os._exit(130)  # as below
    if connecting.is_alive():
        atexit.register(os._exit, MISTAKE)  # jax would log its own end after our line
        raise UserError(
            f"not all processes of {coordinator or 'the SLURM job'} arrived in {timeout} s; start "
            "every one, or wait longer with --initialization_timeout"
        )
    if faults:
        raise faults[0]
    if not is_first_process():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, to the end of the process


def _checked(coordinator: str, processes: int, process: int) -> dict[str, Any]:
    """The flags as jax wants them; UserError if they cannot be right."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator={coordinator} is no host:port, such as 10.0.0.1:29500")
    if not 0 <= process < processes:
        raise UserError(
            f"--process_id={process} with --num_processes={processes}; count from 0 below it"
        )
    if process == 0:
        try:  # jax would crash
            socket.create_server(("", int(port))).close()
        except (OSError, OverflowError) as fault:
            raise UserError(
                f"--coordinator={coordinator}: port {port} cannot be used here ({fault}); "
                "give another, to every process"
            ) from fault
    return dict(zip(_WHO, (coordinator, processes, process), strict=True))


def rows(drawn: Array, layout: Layout) -> Array:
    """This device's part of what was drawn for the whole batch: the same numbers for any layout."""
    if layout.data == 1:
        return drawn
    part = drawn.shape[0] // layout.data
    return lax.dynamic_slice_in_dim(drawn, lax.axis_index(DATA) * part, part, axis=0)


def part_rows(x: Array, part: Part, devices: int = 1) -> Array:
    """A part of the batch, of an array [N, …] whose rows are those of so many devices."""
    index, parts = part
    return x.reshape(devices, parts, -1, *x.shape[1:])[:, index].reshape(-1, *x.shape[1:])


def units(drawn: Array, towers: int, split: bool, layout: Layout) -> list[Array]:
    """This device's part, tower by tower, of what was drawn for the units [..., all] of a layer.

    split: the units of every tower are divided over "data" (a dense layer of the hybrid scheme).
    """
    each, here = drawn.shape[-1] // towers, towers // layout.tower
    part = each // layout.data if split else each
    first = lax.axis_index(TOWER) * here if layout.tower > 1 else 0
    offset = lax.axis_index(DATA) * part if split else 0
    return [
        lax.dynamic_slice_in_dim(drawn, (first + i) * each + offset, part, axis=-1)
        for i in range(here)
    ]


def exchanged(towers: list[Array], layout: Layout, whole: bool) -> list[Array]:
    """Every tower with the maps of all towers: the paper's only communication.

    whole: for a layer that every device computes alike; then no gradient has to come back from the
    other devices.
    """
    x = jnp.concatenate(towers, axis=-1)
    if layout.tower > 1:
        to = "invarying" if whole else "varying"
        x = lax.all_gather(x, TOWER, axis=x.ndim - 1, tiled=True, to=to)
    return [x] * len(towers)


def whole_batch(towers: list[Array], whole: bool) -> list[Array]:
    """Every device with the activations of the whole batch (hybrid); once where towers share."""
    to = "invarying" if whole else "varying"
    full = {id(x): lax.all_gather(x, DATA, axis=0, tiled=True, to=to) for x in towers}
    return [full[id(x)] for x in towers]


def all_rows(x: Array, layout: Layout) -> Array:
    """The whole batch's rows, on every device, of what each computed for its own."""
    if layout.data == 1 or layout.hybrid:
        return x
    return lax.all_gather(x, DATA, axis=0, tiled=True, to="invarying")


def whole_units(towers: list[Array], whole: bool) -> list[Array]:
    """Every device with all units of each of its towers (hybrid)."""
    to = "invarying" if whole else "varying"
    return [lax.all_gather(x, DATA, axis=1, tiled=True, to=to) for x in towers]


def of_logits(labels: Array, layout: Layout) -> Array:
    """[local batch] labels or mask as the logits have them: the hybrid scheme's are of all."""
    if not layout.hybrid:
        return labels
    return lax.all_gather(labels, DATA, axis=0, tiled=True, to="invarying")


def batch_total(x: Array, layout: Layout) -> Array:
    """The sum over the whole batch of what each device summed over its logits."""
    return lax.psum(x, DATA) if layout.data > 1 and not layout.hybrid else x


def own_copies(params: dict[str, dict[str, Array]], net: Net, layout: Layout) -> Any:
    """Parameters whose gradients are of this device's rows only; the transpose sums over "data".

    So gradients of several parts of a batch are summed here first, and over the devices once.
    """
    if layout.data == 1:
        return params
    alike = {
        x.layer.name for x in walk(net, net.crop) if layout.hybrid and isinstance(x.layer, Dense)
    }
    return {
        name: leaves if name in alike else lax.pcast(leaves, DATA, to="varying")
        for name, leaves in params.items()
    }


def global_norm(tree: dict[str, dict[str, Array]], net: Net, layout: Layout) -> Array:
    """√ of the sum of squares of all parameters' gradients, wherever they lie."""
    sums: dict[tuple[str, ...], Array] = {}
    for layer, leaves in param_specs(net, layout).items():
        for name, spec in leaves.items():
            axes, leaf = tuple(axis for axis in spec if axis), tree[layer][name]
            sums[axes] = sums.get(axes, 0.0) + jnp.sum(leaf * leaf)
    return jnp.sqrt(sum(lax.psum(x, axes) if axes else x for axes, x in sums.items()))
