"""Devices: the mesh, what lies where, the exchange between towers. No other file names them.

The mesh has the axes ("data", "tower"). Along "tower" each device holds its share of the towers,
as the paper's two GPUs did (§3.2); along "data" each has its share of the batch. The scheme
"hybrid" is Krizhevsky's of 2014: convolutions split the batch, dense layers split their units over
the same devices and see the whole batch. A function runs on the mesh under `jax.shard_map`, which
checks that what is claimed equal on all devices is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from alexnet_jax.architectures import Dense, Net
from alexnet_jax.shapes import LayerShape, walk

Array = jax.Array
DATA, TOWER = "data", "tower"
EVERYWHERE = P()  # the same on every device


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


def make_mesh(layout: Layout) -> Mesh:
    """A mesh of the first devices; those that stay unused are named in one line."""
    devices = jax.devices()
    used, unused = devices[: layout.devices], devices[layout.devices :]
    if unused:
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


def born_on(make: Callable[[], Any], mesh: Mesh, specs: Any) -> Callable[[], Any]:
    """The function, compiled so that each device makes only its own part of the result."""
    where = jax.tree.map(
        lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda x: isinstance(x, P)
    )
    return jax.jit(make, out_shardings=where)


def put(tree: Any, mesh: Mesh, spec: P) -> Any:
    """The arrays of a tree, each laid on the mesh by `spec`."""
    return jax.device_put(tree, NamedSharding(mesh, spec))


def rows(drawn: Array, layout: Layout) -> Array:
    """This device's part of what was drawn for the whole batch: the same numbers for any layout."""
    if layout.data == 1:
        return drawn
    part = drawn.shape[0] // layout.data
    return lax.dynamic_slice_in_dim(drawn, lax.axis_index(DATA) * part, part, axis=0)


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


def global_norm(tree: dict[str, dict[str, Array]], net: Net, layout: Layout) -> Array:
    """√ of the sum of squares of all parameters' gradients, wherever they lie."""
    sums: dict[tuple[str, ...], Array] = {}
    for layer, leaves in param_specs(net, layout).items():
        for name, spec in leaves.items():
            axes, leaf = tuple(axis for axis in spec if axis), tree[layer][name]
            sums[axes] = sums.get(axes, 0.0) + jnp.sum(leaf * leaf)
    return jnp.sqrt(sum(lax.psum(x, axes) if axes else x for axes, x in sums.items()))
