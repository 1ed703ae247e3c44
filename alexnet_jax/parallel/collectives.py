"""Communication between devices, called by per-device functions under `jax.shard_map`.

On a single device, and along an axis of size 1, every function returns its input.
"""

import jax
import jax.numpy as jnp
from jax import lax

from alexnet_jax.parallel.layout import Layout
from alexnet_jax.parallel.mesh import DATA, TOWER

Array = jax.Array
Part = tuple[int, int]  # (i, n): the i-th of n equal parts of each device's share of the batch


def tower_indices(towers: int, layout: Layout) -> list[Array | int]:
    """Returns the numbers, among all towers, of those that this device holds."""
    held = towers // layout.tower
    first = lax.axis_index(TOWER) * held if layout.tower > 1 else 0
    return [first + i for i in range(held)]


def example_indices(share: int, layout: Layout) -> Array:
    """Returns the places in the whole batch, int32 [share], of the images that this device has."""
    first = lax.axis_index(DATA) * share if layout.data > 1 else 0
    return first + jnp.arange(share)


def own_units(x: Array, layout: Layout) -> Array:
    """Returns this device's part of [..., units] that are divided over "data" (hybrid)."""
    size = x.shape[-1] // layout.data
    return lax.dynamic_slice_in_dim(x, lax.axis_index(DATA) * size, size, axis=-1)


def part_rows(x: Array, part: Part, shares: int = 1) -> Array:
    """Returns part i of n of a batch [N, …].

    With `shares` > 1 the batch holds the rows of that many devices, one device after another; the
    result then has part i of each device's rows.
    """
    index, parts = part
    return x.reshape(shares, parts, -1, *x.shape[1:])[:, index].reshape(-1, *x.shape[1:])


def gather_towers(towers: list[Array], layout: Layout, replicated: bool) -> list[Array]:
    """Gives every tower the maps of all towers: the paper's only communication (§3.2).

    Args:
      towers: [N, …, maps] of each tower on this device.
      layout: of the devices.
      replicated: all devices compute the next layer. Then no gradient has to come back from the
        other devices, and the transpose is free of communication.
    """
    x = jnp.concatenate(towers, axis=-1)
    if layout.tower > 1:
        x = lax.all_gather(x, TOWER, axis=x.ndim - 1, tiled=True, to=_to(replicated))
    return [x] * len(towers)  # one array: towers that share it are gathered once later


def gather_batch(towers: list[Array], layout: Layout, replicated: bool) -> list[Array]:
    """Gives every device the activations of the whole batch (hybrid).

    Towers that share one array are gathered once.
    """
    if not layout.hybrid:
        return towers
    to, different = _to(replicated), {id(x): x for x in towers}
    full = {i: lax.all_gather(x, DATA, axis=0, tiled=True, to=to) for i, x in different.items()}
    return [full[id(x)] for x in towers]


def gather_units(towers: list[Array], layout: Layout, replicated: bool) -> list[Array]:
    """Gives every device all units of each of its towers (hybrid)."""
    if not layout.hybrid:
        return towers
    to = _to(replicated)
    return [lax.all_gather(x, DATA, axis=1, tiled=True, to=to) for x in towers]


def gather_labels(labels: Array, layout: Layout) -> Array:
    """Returns the labels of the logits' rows: in the hybrid scheme, of the whole batch."""
    if not layout.hybrid:
        return labels
    return lax.all_gather(labels, DATA, axis=0, tiled=True, to="invarying")


def gather_rows(x: Array, layout: Layout) -> Array:
    """Gathers the rows of the entire batch from the devices, each of which computed its share.

    In the hybrid scheme every device has all of them already.
    """
    if layout.data == 1 or layout.hybrid:
        return x
    return lax.all_gather(x, DATA, axis=0, tiled=True, to="invarying")


def psum_batch(x: Array, layout: Layout) -> Array:
    """Sums x, which each device has summed over the rows of its logits, over all devices.

    In the hybrid scheme every device has the logits of the entire batch, so x is the sum already.
    """
    return lax.psum(x, DATA) if layout.data > 1 and not layout.hybrid else x


def _to(replicated: bool) -> str:
    # shard_map tracks which values may differ between devices. A gather to "invarying" says that
    # all devices go on alike: its gradient is a slice. To "varying", each goes on by itself: the
    # gradient is a reduce-scatter, which sums what the devices found.
    return "invarying" if replicated else "varying"
