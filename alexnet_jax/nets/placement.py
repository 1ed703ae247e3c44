"""A net on several devices: what each layer gathers from others, and where its parameters lie.

One walk over the layers, `place`, decides both. The model performs the gathers, `plan` counts their
bytes, and both read the same list.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from alexnet_jax.errors import UserError
from alexnet_jax.nets.shapes import LayerShape, layer_shapes, without_statistics
from alexnet_jax.nets.spec import LRN, Dense, Net, Weighted
from alexnet_jax.parallel import DATA, REPLICATED, TOWER, Layout

Array = jax.Array
Params = Mapping[str, Mapping[str, Array]]
UNITS, TOWERS, BATCH = "all units", "all towers", "the whole batch"


@dataclass(frozen=True)
class Gather:
    """One gather of a layer's input, before the layer is computed.

    Attributes:
      of: UNITS, TOWERS or BATCH, which is complete on every device afterwards.
      devices: number of devices that take part; 1 needs no communication.
      features: shape of one example of the gathered array.
      full_batch: True if the gathered array has the rows of the whole batch, not of one device's
        share.
      copies: number of gathered arrays: one per tower on a device, unless the towers share one.
    """

    of: str
    devices: int
    features: tuple[int, ...]
    full_batch: bool
    copies: int

    def array(self, batch: int, layout: Layout) -> tuple[int, ...]:
        """Returns the shape of the gathered array for a batch of `batch` images."""
        return (batch if self.full_batch else batch // layout.data, *self.features)


@dataclass(frozen=True)
class PlacedLayer:
    """One layer of a net on the devices of a layout.

    Attributes:
      shape: the layer's sizes on a single device.
      layout: of the devices.
      gathers: the gathers of the layer's input, in the order in which they happen.
      units_split: True for the dense layers of the hybrid scheme and for the layers that follow
        them. A device then has the output for all images of the batch, and for its share of each
        tower's units. The classifier's output has all units.
    """

    shape: LayerShape
    layout: Layout
    gathers: tuple[Gather, ...] = ()
    units_split: bool = False

    @property
    def replicated(self) -> bool:
        """True for the classifier, which every device along "tower" computes for itself."""
        return isinstance(self.shape.layer, Weighted) and not self.shape.layer.divided

    @property
    def batch_split(self) -> bool:
        """True if a device has the layer's output for its own share of the batch only."""
        return self.layout.data > 1 and not self.units_split

    @property
    def unit_shares(self) -> int:
        """Returns the number of devices along "data" that share each tower's units."""
        return self.layout.data if self.units_split and not self.replicated else 1

    def sum_over_batch(self, x: Array) -> Array:
        """Returns the sum over the whole batch of x, which is summed over this device's rows."""
        return lax.psum(x, DATA) if self.batch_split else x

    def specs(self) -> dict[str, P]:
        """Returns the partition specs of the layer's parameters by name.

        The leading tower axis is divided over "tower", the units of hybrid dense layers over
        "data". The classifier is replicated: it needs the activations of all devices, and its
        labels are on each.
        """
        if self.replicated:
            return dict.fromkeys(self.shape.arrays, REPLICATED)
        tower = TOWER if self.layout.tower > 1 else None
        if self.unit_shares > 1:
            # The axes between the tower axis, which is first, and the units, which are last.
            inner = {name: len(shape) - 2 for name, shape in self.shape.arrays.items()}
            return {name: P(tower, *[None] * axes, DATA) for name, axes in inner.items()}
        return dict.fromkeys(self.shape.arrays, P(tower))

    def shard_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of one device's shard of a parameter of the layer of this shape."""
        if self.replicated:
            return shape
        return (shape[0] // self.layout.tower, *shape[1:-1], shape[-1] // self.unit_shares)

    def outputs(self, batch: int) -> int:
        """Returns the number of elements of the layer's output that lie on one device.

        Args:
          batch: images over all devices.
        """
        rows = batch // self.layout.data if self.batch_split else batch
        # Every device has all units of the classifier's output.
        shares = 1 if self.replicated else self.layout.tower * self.unit_shares
        return rows * math.prod(self.shape.out) // shares


def _gathers(shape: LayerShape, units_split: bool, net: Net, layout: Layout) -> Iterator[Gather]:
    """Yields the gathers of one layer's input, in order.

    Units come first, so that an exchange reads complete towers. The batch comes last, so that the
    one array that towers share after an exchange is gathered once.

    Args:
      shape: of the layer, which has weights.
      units_split: True if the devices have shares of the units of the layer below, not of the
        batch.
      net: resolved.
      layout: of the devices.
    """
    hybrid_dense = layout.hybrid and isinstance(shape.layer, Dense)
    held = net.towers // layout.tower  # towers on one device
    *places, features = shape.reads
    if hybrid_dense and units_split:
        yield Gather(UNITS, layout.data, (features // net.towers,), True, held)
    if shape.exchanged:
        yield Gather(TOWERS, layout.tower, shape.reads, units_split, 1)
    if hybrid_dense and not units_split:
        maps = features if shape.exchanged else features // net.towers
        copies = 1 if shape.exchanged else held  # after an exchange the towers share one array
        yield Gather(BATCH, layout.data, (*places, maps), True, copies)


def place(net: Net, layout: Layout) -> tuple[PlacedLayer, ...]:
    """Returns every layer of a resolved net but the exchanges, as the layout's devices hold it."""
    placed, units_split = [], False
    for shape in layer_shapes(net, net.crop):
        gathers = ()
        if isinstance(shape.layer, Weighted):
            # Before units_split is updated: the gathers depend on how the layer below is divided.
            gathers = tuple(_gathers(shape, units_split, net, layout))
            units_split = units_split or (layout.hybrid and isinstance(shape.layer, Dense))
        placed.append(PlacedLayer(shape, layout, gathers, units_split))
    return tuple(placed)


def with_parameters(net: Net, layout: Layout) -> dict[str, PlacedLayer]:
    """Returns the layers with parameters, by name."""
    return {x.shape.layer.name: x for x in place(net, layout) if x.shape.arrays}


def param_specs(net: Net, layout: Layout) -> dict[str, dict[str, P]]:
    """Returns the partition spec of every parameter: {layer: {"kernel": …, "bias": …}}."""
    return {name: layer.specs() for name, layer in with_parameters(net, layout).items()}


def per_device_params(params: Params, net: Net, layout: Layout) -> Any:
    """Marks the parameters as differing between devices, so that each has its own gradients.

    The values are unchanged. A device's gradients are then those of its own rows, and the transpose
    of this function sums them over "data". So several parts of a batch can be summed on each
    device first, and over the devices once.
    """
    if layout.data == 1:
        return params
    layers = with_parameters(net, layout)
    return {
        # Dense layers of the hybrid scheme see the whole batch: their gradients are complete.
        name: leaves if layers[name].units_split else lax.pcast(leaves, DATA, to="varying")
        for name, leaves in params.items()
    }


def global_norm(tree: Params, net: Net, layout: Layout) -> Array:
    """Returns the Euclidean norm of a gradient tree, float32 [], over the shards of all devices.

    Each parameter's squares are summed over the mesh axes that it is divided along, and no other:
    a replicated parameter would count once per device.
    """
    # Sums by mesh axes: parameters that are divided along the same axes share one psum.
    sums: dict[tuple[str, ...], Array] = {}
    for layer, leaves in without_statistics(param_specs(net, layout)).items():
        for name, spec in leaves.items():
            axes, leaf = tuple(axis for axis in spec if axis), tree[layer][name]
            sums[axes] = sums.get(axes, 0.0) + jnp.sum(leaf * leaf)
    return jnp.sqrt(sum(lax.psum(x, axes) if axes else x for axes, x in sums.items()))


def kernel_norms(tree: Params, net: Net, layout: Layout) -> dict[str, Array]:
    """Returns the Euclidean norm of every kernel by layer, float32 [], over all devices' shards."""

    def norm(kernel: Array, spec: P) -> Array:
        # The mesh axes that the kernel is divided along: over these, its squares are summed.
        axes, squares = tuple(axis for axis in spec if axis), jnp.sum(kernel * kernel)
        return jnp.sqrt(lax.psum(squares, axes) if axes else squares)

    specs = param_specs(net, layout)
    kernels = {name: leaves["kernel"] for name, leaves in tree.items() if "kernel" in leaves}
    return {name: norm(kernel, specs[name]["kernel"]) for name, kernel in kernels.items()}


def check_layout(layout: Layout, net: Net, batch_sizes: Mapping[str, int]) -> None:
    """Raises UserError unless the layout's devices can divide this net and these batches.

    Args:
      layout: of the devices.
      net: resolved.
      batch_sizes: numbers of images by the config key that sets them.
    """
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
        if (
            isinstance(layer, Dense)
            and layer.divided
            and layer.features // net.towers % layout.data
        ):
            raise UserError(
                f"{layer.name}'s {layer.features // net.towers} units a tower do not divide "
                f"over parallel.data={layout.data} in the hybrid scheme; use a divisor"
            )
