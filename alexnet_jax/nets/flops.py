"""The floating-point operations of a training step, computed from the layers' sizes."""

from alexnet_jax.nets.placement import with_parameters
from alexnet_jax.nets.spec import Net
from alexnet_jax.parallel import Layout


def step_flops(net: Net, layout: Layout, batch: int) -> int:
    """Returns the FLOPs of one training step on one device.

    FLOPs = 2 × multiply-adds × 3: the forward pass, the gradient of the input and the gradient of
    the weights. The first layer has no gradient of its input, the images: × 2. Only layers with
    weights count; norms, pooling and the update are left out.

    Args:
      net: resolved.
      layout: of the devices.
      batch: images over all devices. The classifier is replicated: along "tower" every device
        computes it for the same images, and in the hybrid scheme for the whole batch.
    """
    total, passes = 0, 2  # 2 for the first layer, 3 from then on
    for placed in with_parameters(net, layout).values():  # BatchNorm has 0 multiply-adds
        macs = placed.shape.macs * (batch if placed.units_split else batch // layout.data)
        if not placed.replicated:
            macs = macs // (layout.tower * placed.unit_shares)
        total, passes = total + 2 * macs * passes, 3
    return total


def flops_per_image(net: Net) -> int:
    """Returns the FLOPs of training on one image, on a single device."""
    return step_flops(net, Layout(), 1)
