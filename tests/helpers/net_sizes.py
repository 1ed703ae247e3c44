"""The nets that configs resolve to, their numbers of parameters and multiply-adds."""

from alexnet_jax.nets.shapes import layer_shapes
from alexnet_jax.nets.variants import resolve
from alexnet_jax.nets.zoo import NETS
from configs.base import get_config

CIFAR = ("cuda_convnet_18pct", "cuda_convnet_13pct", "cuda_convnet_11pct", "four_layer")


def net_of(name="alexnet", crop=None, classes=None, width=1.0, **changes):
    """Returns the net that a config resolves to; of the published size by default."""
    config = get_config()
    config.model.name = name
    config.model.width = width
    config.model.num_classes = classes or (10 if name in CIFAR else 1000)
    for key, value in changes.items():
        setattr(config.model, key, value)
    return resolve(config.model, crop or NETS[name].crop)


def shapes_of(net):
    return {shape.layer.name: shape for shape in layer_shapes(net, net.crop)}


def parameters(net):
    return sum(shape.params for shape in shapes_of(net).values())


def multiply_adds(net):
    return sum(shape.macs for shape in shapes_of(net).values())


# name: weights, biases, multiply-adds, side of the output, kernel of one tower
ALEXNET_LAYERS = {
    "conv1": (34_848, 96, 105_415_200, 55, (11, 11, 3, 48)),
    "conv2": (307_200, 256, 223_948_800, 27, (5, 5, 48, 128)),
    "conv3": (884_736, 384, 149_520_384, 13, (3, 3, 256, 192)),
    "conv4": (663_552, 384, 112_140_288, 13, (3, 3, 192, 192)),
    "conv5": (442_368, 256, 74_760_192, 13, (3, 3, 192, 128)),
    "fc6": (37_748_736, 4096, 37_748_736, None, (9216, 2048)),
    "fc7": (16_777_216, 4096, 16_777_216, None, (4096, 2048)),
    "fc8": (4_096_000, 1000, 4_096_000, None, (4096, 1000)),
}
