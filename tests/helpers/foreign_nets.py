"""Caffe's and torchvision's AlexNets in NumPy, and small random weights in their own layouts.

Channels first, with groups as Caffe has them; wired independently of the package's nets, of the
arithmetic in `reference`.
"""

import numpy as np
import reference
from reference import relu

CLASSES = 7
OF_CAFFE = {"conv1": 6, "conv2": 16, "conv3": 24, "conv4": 24, "conv5": 16, "fc6": 256, "fc7": 256}
OF_TORCH = {"conv1": 4, "conv2": 12, "conv3": 24, "conv4": 16, "conv5": 16, "fc6": 256, "fc7": 256}
GROUPS = {"conv2": 2, "conv4": 2, "conv5": 2}
TORCHVISION_LAYERS = {
    "conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8",
    "conv5": "features.10", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6",
}  # fmt: skip


def conv(x, kernel, bias, groups=1, stride=1, pad=0):
    """Convolves [C, H, W] with a kernel [out, in ÷ groups, rows, columns]."""
    parts = zip(*(np.split(array, groups) for array in (x, kernel, bias)), strict=True)
    outputs = [
        reference.conv(places_first(part), weights.transpose(2, 3, 1, 0), constant, stride, pad)
        for part, weights, constant in parts
    ]
    return maps_first(np.concatenate(outputs, axis=-1))


def places_first(x):
    """[C, H, W] → [1, H, W, C]."""
    return x.transpose(1, 2, 0)[None]


def maps_first(x):
    """[1, H, W, C] → [C, H, W]."""
    return x[0].transpose(2, 0, 1)


def pool(x):
    return maps_first(reference.pool(places_first(x)))


def norm(x):
    """Caffe's: k = 1, alpha ÷ 5, over all channels."""
    return reference.response_norm(x, (0,), 5, 1, 1e-4 / 5, 0.75)


def caffe(image, blobs, norm_first):
    """bvlc_alexnet (norm before pool) or bvlc_reference_caffenet, of uint8 RGB [227, 227, 3]."""

    def of(name):
        return blobs[f"{name}/0"], blobs[f"{name}/1"]

    def both(x):
        return pool(norm(x)) if norm_first else norm(pool(x))

    bgr = image[..., ::-1] - np.array([104.00698793, 116.66876762, 122.67891434])
    x = bgr.transpose(2, 0, 1)
    x = both(relu(conv(x, *of("conv1"), stride=4)))
    x = both(relu(conv(x, *of("conv2"), groups=2, pad=2)))
    x = relu(conv(x, *of("conv3"), pad=1))
    x = relu(conv(x, *of("conv4"), groups=2, pad=1))
    x = pool(relu(conv(x, *of("conv5"), groups=2, pad=1))).ravel()
    for name in ("fc6", "fc7"):
        x = relu(of(name)[0] @ x + of(name)[1])
    return of("fc8")[0] @ x + of("fc8")[1]


def torchvision(image, state):
    """torchvision's alexnet of uint8 RGB [224, 224, 3]."""

    def of(name):
        return state[f"{name}.weight"], state[f"{name}.bias"]

    scaled = (image / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    x = scaled.transpose(2, 0, 1)
    x = pool(relu(conv(x, *of("features.0"), stride=4, pad=2)))
    x = pool(relu(conv(x, *of("features.3"), pad=2)))
    for name in ("features.6", "features.8"):
        x = relu(conv(x, *of(name), pad=1))
    x = pool(relu(conv(x, *of("features.10"), pad=1))).ravel()
    for name in ("classifier.1", "classifier.4"):
        x = relu(of(name)[0] @ x + of(name)[1])
    return of("classifier.6")[0] @ x + of("classifier.6")[1]


def drawn(shapes, seed=0):
    """Arrays of variance 2 ÷ fan-in, biases about 0.1: every layer matters."""
    rng = np.random.default_rng(seed)

    def draw(shape):
        if len(shape) == 1:
            return rng.normal(0.1, 0.1, shape)
        return rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))

    return {name: draw(shape).astype(np.float32) for name, shape in shapes.items()}


def shapes_of(units, groups, keys):
    """What a net with these units holds, under its own names: (weights, bias) by layer."""
    units = {**units, "fc8": CLASSES}
    sides = {"conv1": 11, "conv2": 5, "conv3": 3, "conv4": 3, "conv5": 3}
    shapes, inputs = {}, 3
    for layer, outputs in units.items():
        side = (sides[layer],) * 2 if layer in sides else ()
        reads = inputs * 36 if layer == "fc6" else inputs // groups.get(layer, 1)
        shapes |= {keys(layer)[0]: (outputs, reads, *side), keys(layer)[1]: (outputs,)}
        inputs = outputs
    return shapes


def caffe_keys(layer):
    return f"{layer}/0", f"{layer}/1"


def torchvision_keys(layer):
    return f"{TORCHVISION_LAYERS[layer]}.weight", f"{TORCHVISION_LAYERS[layer]}.bias"


BLOBS = drawn(shapes_of(OF_CAFFE, GROUPS, caffe_keys))
STATE = drawn(shapes_of(OF_TORCH, {}, torchvision_keys), seed=1)
