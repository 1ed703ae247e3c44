"""The published nets with the 1000 classes of ILSVRC, as they were first trained."""

from dataclasses import replace

from alexnet_jax.nets.spec import Net
from alexnet_jax.nets.zoo import NETS

CLASSES = 1000


def imagenet_net(name: str) -> Net:
    """Returns a net of `nets.zoo` in its published size, with one classifier unit a class."""
    net = NETS[name]
    *below, classifier = net.layers
    return replace(net, layers=(*below, replace(classifier, features=CLASSES)))
