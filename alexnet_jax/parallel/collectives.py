"""Communication between devices, called by per-device functions under `jax.shard_map`.

Along a mesh axis of size 1 nothing is communicated, so that one device needs no shard_map.
"""

import jax
import jax.numpy as jnp
from jax import lax

from alexnet_jax.parallel.layout import Layout
from alexnet_jax.parallel.mesh import DATA, TOWER

Array = jax.Array
PartIndex = tuple[int, int]  # (i, n): the i-th of n equal parts of a device's share of the batch


def tower_indices(towers: int, layout: Layout) -> list[Array | int]:
    """Returns the indices, among `towers` towers, of the towers that this device holds."""
    held = towers // layout.tower
    first = lax.axis_index(TOWER) * held if layout.tower > 1 else 0
    return [first + i for i in range(held)]


def example_indices(share: int, layout: Layout) -> Array:
    """Returns the positions in the whole batch, int32 [share], of this device's images.

    Args:
      share: number of images on this device.
      layout: of the devices.
    """
    first = lax.axis_index(DATA) * share if layout.data > 1 else 0
    return first + jnp.arange(share)


def own_units(x: Array, layout: Layout) -> Array:
    """Returns this device's share of the units of x, [..., units], divided over "data" (hybrid)."""
    size = x.shape[-1] // layout.data
    return lax.dynamic_slice_in_dim(x, lax.axis_index(DATA) * size, size, axis=-1)


def part_rows(x: Array, part: PartIndex, shares: int = 1) -> Array:
    """Returns part i of n of a batch x, [N, …]: N ÷ n rows.

    With `shares` > 1 the batch holds the rows of that many devices, one device after another. The
    result then has part i of each device's rows, as if each had been cut before they were gathered.
    """
    index, parts = part
    return x.reshape(shares, parts, -1, *x.shape[1:])[:, index].reshape(-1, *x.shape[1:])


def gather_towers(towers: list[Array], layout: Layout, replicated: bool) -> list[Array]:
    """Gives every tower the maps of all towers: the paper's only communication (§3.2).

    Args:
      towers: [N, …, maps] of each tower on this device.
      layout: of the devices.
      replicated: True if every device computes the whole next layer. Each then has the complete
        gradient already, and the backward pass needs no communication.
    """
    x = jnp.concatenate(towers, axis=-1)
    if layout.tower > 1:
        x = lax.all_gather(x, TOWER, axis=x.ndim - 1, tiled=True, to=_to(replicated))
    return [x] * len(towers)  # one array: towers that share it are gathered once later


def gather_batch(towers: list[Array], layout: Layout, replicated: bool) -> list[Array]:
    """Gives every device the activations of the whole batch (hybrid); see `gather_towers`."""
    if not layout.hybrid:
        return towers
    # By identity: after an exchange all towers are one array, which is sent once.
    to, different = _to(replicated), {id(x): x for x in towers}
    full = {i: lax.all_gather(x, DATA, axis=0, tiled=True, to=to) for i, x in different.items()}
    return [full[id(x)] for x in towers]


def gather_units(towers: list[Array], layout: Layout, replicated: bool) -> list[Array]:
    """Gives every device all units of each of its towers, [N, units] (hybrid)."""
    if not layout.hybrid:
        return towers
    to = _to(replicated)
    return [lax.all_gather(x, DATA, axis=1, tiled=True, to=to) for x in towers]


def gather_labels(labels: Array, layout: Layout) -> Array:
    """Returns the labels, [rows], that belong to the rows of the logits.

    In the hybrid scheme the logits have the rows of the whole batch, otherwise this device's.
    """
    if not layout.hybrid:
        return labels
    # "invarying", as the logits are: every device computes the same loss.
    return lax.all_gather(labels, DATA, axis=0, tiled=True, to="invarying")


def gather_rows(x: Array, layout: Layout) -> Array:
    """Returns x, [rows, …], for the whole batch, from the devices' shares.

    In the hybrid scheme every device has all rows already.
    """
    if layout.data == 1 or layout.hybrid:
        return x
    return lax.all_gather(x, DATA, axis=0, tiled=True, to="invarying")


def psum_batch(x: Array, layout: Layout) -> Array:
    """Returns the sum over the whole batch of x, which is summed over the rows of the logits.

    In the hybrid scheme every device has the logits of the whole batch, so x is the sum already.
    """
    return lax.psum(x, DATA) if layout.data > 1 and not layout.hybrid else x


def _to(replicated: bool) -> str:
    # shard_map tracks which values may differ between devices. After a gather to "invarying" all
    # devices compute the same: the gradient is a slice. After one to "varying" they compute
    # different things: the gradient is a reduce-scatter, which sums the devices' gradients.
    return "invarying" if replicated else "varying"
