"""The memory of one device in training, in bytes, by arithmetic on the layers' sizes."""

import math

from alexnet_jax.nets.placement import place, with_parameters
from alexnet_jax.nets.spec import Net
from alexnet_jax.parallel import Layout

FLOAT = 4  # bytes of a float32


def parameter_bytes(net: Net, layout: Layout) -> int:
    """Returns the bytes of one device's parameters. Gradients and velocities take the same each."""
    return FLOAT * sum(
        math.prod(placed.shard_shape(array))
        for placed in with_parameters(net, layout).values()
        for array in placed.shape.arrays.values()
    )


def output_bytes(net: Net, layout: Layout, batch: int) -> int:
    """Returns the bytes of all layers' outputs on one device, for `batch` images over all devices.

    They are held until the backward pass has read them.
    """
    return FLOAT * sum(placed.outputs(batch) for placed in place(net, layout))


def gathered_bytes(net: Net, layout: Layout, batch: int) -> int:
    """Returns the bytes of the inputs that one device gathers from others, for `batch` images."""
    return FLOAT * sum(
        math.prod(gather.array(batch, layout)) * gather.copies
        for placed in place(net, layout)
        for gather in placed.gathers
        if gather.devices > 1  # else nothing is copied
    )
