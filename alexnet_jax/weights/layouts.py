"""Other programs' layouts of AlexNet's weights, and the conversion between them and ours.

Caffe and PyTorch keep a convolution's kernel as [out, in ÷ groups, rows, columns], a dense kernel
as [out, in] and biases as [out]. Ours have a leading axis over the towers:

    convolution  [towers, rows, columns, in, out ÷ towers]
    dense        [towers, in, out ÷ towers]
    bias         [towers, out ÷ towers]

The first dense layer reads maps, theirs in the order (channel, row, column), ours in the order
(row, column, channel). Conversion permutes and splits axes and never rescales a number.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from alexnet_jax.nets.shapes import LayerShape, layer_shapes
from alexnet_jax.nets.spec import BatchNorm, Dense, Exchange, Layer, Local, Net, Weighted

Arrays = dict[str, np.ndarray]
Params = dict[str, dict[str, np.ndarray]]
TORCHVISION_LAYERS = {
    "conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8",
    "conv5": "features.10", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6",
}  # fmt: skip


@dataclass(frozen=True)
class WeightLayout:
    """The names, order of channels and input normalisation of another program's weight files.

    Attributes:
      nets: names of our nets that compute what the program's own do; the first is the default.
      kernel, bias: the names of a layer's two arrays, to be formatted with `layer`.
      layers: its name of each of our layers; empty = it can name any layer, as we do.
      bgr: its images are blue, green, red, so that the input channels of the first layer, a
        convolution, are reversed.
      mean, scale: RGB; its net's input is (pixel of 0–255 − mean) × scale.
    """

    nets: tuple[str, ...]
    kernel: str
    bias: str
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]
    bgr: bool = False
    layers: dict[str, str] = field(default_factory=dict)

    def names(self, layer: str) -> tuple[str, str]:
        """Returns the names of a layer's kernel and bias."""
        theirs = self.layers.get(layer, layer)
        return self.kernel.format(layer=theirs), self.bias.format(layer=theirs)


LAYOUTS = {
    "caffe": WeightLayout(
        nets=("caffe_alexnet", "caffenet"),
        kernel="{layer}/0",
        bias="{layer}/1",
        # The mean over all places of Caffe's mean image, ilsvrc_2012_mean.npy.
        mean=(122.67891434, 116.66876762, 104.00698793),
        scale=(1.0, 1.0, 1.0),
        bgr=True,
    ),
    "torchvision": WeightLayout(
        nets=("one_weird_trick",),
        kernel="{layer}.weight",
        bias="{layer}.bias",
        # torchvision's documentation states them for pixels of 0–1, so they are scaled to 0–255:
        # (x ÷ 255 − mean) ÷ std = (x − 255 mean) ÷ (255 std).
        mean=(255 * 0.485, 255 * 0.456, 255 * 0.406),
        scale=(1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)),
        layers=TORCHVISION_LAYERS,
    ),
}


def weighted_shapes(net: Net) -> Iterator[LayerShape]:
    """Yields the shapes of the layers with weights."""
    return (shape for shape in layer_shapes(net, net.crop) if isinstance(shape.layer, Weighted))


def unnamed_layers(layout: WeightLayout, net: Net) -> list[str]:
    """Returns the names of the layers that a file in this layout cannot hold; [] if it holds all.

    Neither program's net has batch normalisation, unshared convolutions, or dense layers that are
    divided into groups.
    """

    def unnamed(previous: Layer, layer: Layer) -> bool:
        divided = isinstance(layer, Dense) and net.towers > 1 and layer.divided
        return (
            isinstance(layer, Local | BatchNorm)
            or (divided and not isinstance(previous, Exchange))
            or (
                isinstance(layer, Weighted)
                and bool(layout.layers)  # Caffe's file can hold a layer of any name
                and layer.name not in layout.layers
            )
        )

    return [layer.name for previous, layer in pairwise(net.layers) if unnamed(previous, layer)]


def expected_shapes(layout: WeightLayout, net: Net) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each array that a file in this layout must hold for the net."""
    shapes = {}
    for shape in weighted_shapes(net):
        kernel, bias = layout.names(shape.layer.name)
        # Ours is [towers, …window, in, out ÷ towers], theirs [out, in, …window].
        *window, maps, _ = shape.kernel[1:]
        shapes[kernel] = (shape.out[-1], maps, *window)
        shapes[bias] = (shape.out[-1],)
    return shapes


def to_params(layout: WeightLayout, net: Net, arrays: Arrays) -> Params:
    """Returns our parameters of every layer whose kernel and bias are given.

    Args:
      layout: of the arrays.
      net: resolved.
      arrays: by the layout's names, in the shapes of `expected_shapes`.
    """
    params, first = {}, next(weighted_shapes(net)).layer.name
    for shape in weighted_shapes(net):
        kernel_name, bias_name = layout.names(shape.layer.name)
        if kernel_name not in arrays:
            continue
        kernel = arrays[kernel_name]
        if layout.bgr and shape.layer.name == first:
            kernel = kernel[:, ::-1]  # only the first layer reads colours
        params[shape.layer.name] = {
            "kernel": _our_kernel(kernel, shape),
            "bias": np.ascontiguousarray(arrays[bias_name].reshape(shape.bias)),
        }
    return params


def to_arrays(layout: WeightLayout, net: Net, params: Params) -> Arrays:
    """Returns the arrays of a file in this layout; the inverse of `to_params`."""
    arrays, first = {}, next(weighted_shapes(net)).layer.name
    for shape in weighted_shapes(net):
        layer = params[shape.layer.name]
        kernel = channels_first(layer["kernel"], shape)
        if layout.bgr and shape.layer.name == first:
            kernel = kernel[:, ::-1]
        kernel_name, bias_name = layout.names(shape.layer.name)
        arrays[kernel_name] = np.ascontiguousarray(kernel)
        arrays[bias_name] = np.ascontiguousarray(layer["bias"]).reshape(-1)
    return arrays


def _our_kernel(kernel: np.ndarray, shape: LayerShape) -> np.ndarray:
    """Turns a kernel [out, in, …] into [towers, …, in, out ÷ towers].

    The outputs of Caffe's two groups are stored one after the other, as those of our towers.
    """
    if isinstance(shape.layer, Dense) and len(shape.reads) == 3:
        rows, columns, _ = shape.reads
        # Only the first dense layer reads maps: (channel, row, column) → (row, column, channel).
        kernel = kernel.reshape(len(kernel), -1, rows, columns).transpose(0, 2, 3, 1)
        kernel = kernel.reshape(len(kernel), -1)
    towers = kernel.reshape(shape.kernel[0], shape.per_tower, *kernel.shape[1:])
    return np.ascontiguousarray(np.moveaxis(towers, (1, 2), (-1, -2)))


def channels_first(kernel: np.ndarray, shape: LayerShape) -> np.ndarray:
    """Turns a kernel [towers, …, in, out ÷ towers] into [out, in, …]; inverse of `_our_kernel`.

    A dense kernel's inputs are then in the order (channel, row, column).
    """
    kernel = np.moveaxis(np.asarray(kernel), (-1, -2), (1, 2))
    kernel = kernel.reshape(-1, *kernel.shape[2:])
    if isinstance(shape.layer, Dense) and len(shape.reads) == 3:
        rows, columns, _ = shape.reads
        kernel = kernel.reshape(len(kernel), rows, columns, -1).transpose(0, 3, 1, 2)
        kernel = kernel.reshape(len(kernel), -1)
    return kernel
