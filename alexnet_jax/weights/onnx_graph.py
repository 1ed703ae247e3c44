"""A net as an ONNX graph of standard operators, built from its tuple of layers.

The graph takes pixels of 0–255 and applies the mean and the scale itself, so that nobody who runs
it has to know them. Outputs of convolutions are [N, maps, H, W], as ONNX has them, with the maps of
one tower after those of the other. The output of each layer has the layer's name in the graph.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from alexnet_jax.errors import UserError
from alexnet_jax.nets.shapes import LayerShape, layer_shapes, overhang
from alexnet_jax.nets.spec import (
    LRN,
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Local,
    MapLRN,
    MaxPool,
    Net,
    Weighted,
)
from alexnet_jax.weights.layouts import Params, channels_first

OPSET, IR_VERSION = 17, 8  # of 2022: older runtimes and those in browsers run them too
OPERATORS = {"relu": "Relu", "tanh": "Tanh"}
Weights = dict[str, np.ndarray]


@dataclass
class Graph:
    """A graph that is being built: its nodes in order, and its constants by name."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node and returns the name of its output."""
        return self.add_several(operator, *inputs, outputs=1, **attributes)[0]

    def add_several(
        self, operator: str, *inputs: str, outputs: int, **attributes: Any
    ) -> list[str]:
        """Adds a node and returns the names of its outputs."""
        names = [f"{operator.lower()}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def name_last(self, name: str) -> str:
        """Gives the output of the node added last another name and returns it."""
        self.nodes[-1].output[0] = name
        return name

    def constant(self, name: str, values: Any, dtype: type = np.float32) -> str:
        """Adds a constant and returns its name."""
        array = np.ascontiguousarray(values, dtype)
        self.constants[name] = numpy_helper.from_array(array, name)
        return name


def onnx_model(
    net: Net, params: Params, mean: np.ndarray, scale: np.ndarray, facts: Mapping[str, str]
) -> onnx.ModelProto:
    """Returns the model: images [N, 3, crop, crop] → logits and probabilities [N, classes].

    Args:
      net: resolved.
      params: {layer: {"kernel", "bias"}} of the net.
      mean: float32 [crop, crop, 3] or [3], RGB of 0–255.
      scale: float32 [3]; the net's input is (pixels − mean) × scale.
      facts: metadata to be kept in the file.

    Raises:
      UserError: a layer that cannot be written as ONNX.
    """
    graph = Graph()
    mean = mean.transpose(2, 0, 1) if mean.ndim == 3 else mean.reshape(3, 1, 1)
    x = graph.add("Sub", "images", graph.constant("mean", mean))
    x = graph.add("Mul", x, graph.constant("scale", np.reshape(scale, (3, 1, 1))))
    for shape in layer_shapes(net, net.crop):
        x = _layer(graph, net, shape, x, params.get(shape.layer.name, {}))
    # A node of its own for the name: that of the last layer is taken.
    graph.add("Identity", x)
    graph.add("Softmax", graph.name_last("logits"), axis=1)
    graph.name_last("probabilities")
    model = _model(graph, net, shape.out[0])
    helper.set_model_props(model, dict(facts))
    onnx.checker.check_model(model, full_check=True)  # full: also infers every shape
    return model


def _model(graph: Graph, net: Net, classes: int) -> onnx.ModelProto:
    images = helper.make_tensor_value_info(
        "images",
        TensorProto.FLOAT,
        ["batch", 3, net.crop, net.crop],
        doc_string="pixels of 0–255, red, green, blue",
    )
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", classes])
        for name in ("logits", "probabilities")
    ]
    built = helper.make_graph(
        graph.nodes, "alexnet", [images], outputs, list(graph.constants.values())
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(
        built, opset_imports=[opset], ir_version=IR_VERSION, producer_name="alexnet_jax"
    )


def _layer(graph: Graph, net: Net, shape: LayerShape, x: str, weights: Weights) -> str:
    """Adds one layer and its activation; returns the name of its output.

    Args:
      graph: changed in place.
      net: resolved.
      shape: of the layer.
      x: name of the layer's input in the graph.
      weights: of the layer; {} if it has none.

    Raises:
      UserError: the layer cannot be written as ONNX.
    """
    layer = shape.layer
    if type(layer) not in LAYERS:
        raise UserError(
            f"layer {layer.name!r} is a {type(layer).__name__}, which cannot be written as ONNX; "
            "export to .safetensors or a folder instead"
        )
    x = LAYERS[type(layer)](graph, net, shape, x, weights)
    activation = layer.activation if isinstance(layer, Weighted | Activation) else None
    if activation:
        x = graph.add(OPERATORS[activation], x)
    if x == graph.nodes[-1].output[0]:  # not of an inverted dropout, which adds no node
        x = graph.name_last(layer.name)
    return x


def _conv(graph: Graph, net: Net, shape: LayerShape, x: str, weights: Weights) -> str:
    layer = shape.layer
    kernel = channels_first(weights["kernel"], shape)
    bias = weights.get("bias", np.zeros(len(kernel)))  # none before batch normalisation
    return graph.add(
        "Conv",
        x,
        graph.constant(f"{layer.name}.weight", kernel),
        graph.constant(f"{layer.name}.bias", np.ravel(bias)),
        group=shape.reads[-1] // kernel.shape[1],  # 1, or the towers if each reads its own maps
        kernel_shape=[layer.size] * 2,
        strides=[layer.stride] * 2,
        pads=_pads(layer.padding, overhang(shape.reads[0], layer)),
    )


def _pads(padding: int, over: int) -> list[int]:
    """Returns ONNX's order: top, left, bottom, right. An explicit overhang needs no ceil_mode."""
    return [padding, padding, padding + over, padding + over]


def _dense(graph: Graph, net: Net, shape: LayerShape, x: str, weights: Weights) -> str:
    name, kernel = shape.layer.name, channels_first(weights["kernel"], shape)
    groups = math.prod(shape.reads) // kernel.shape[1]  # 1, or the towers
    kernels, biases = np.split(kernel, groups), np.split(np.ravel(weights["bias"]), groups)
    outputs = []
    for i, part in enumerate(_groups(graph, x, groups)):
        tower = name if groups == 1 else f"{name}.tower{i + 1}"
        # The order (channel, row, column), in which channels_first has the kernel's inputs.
        part = graph.add("Flatten", part) if len(shape.reads) == 3 else part
        kernel = graph.constant(f"{tower}.weight", kernels[i])
        bias = graph.constant(f"{tower}.bias", biases[i])
        # transB, because the kernel is [out, in].
        outputs.append(graph.add("Gemm", part, kernel, bias, transB=1))
    return _joined(graph, outputs)


def _groups(graph: Graph, x: str, groups: int) -> list[str]:
    """Returns x, or its parts if its maps or units are divided among groups."""
    return [x] if groups == 1 else graph.add_several("Split", x, outputs=groups, axis=1)


def _joined(graph: Graph, parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)


def _local(graph: Graph, net: Net, shape: LayerShape, x: str, weights: Weights) -> str:
    """Adds an unshared convolution, which multiplies each place's patch by its own matrix.

    ONNX has no operator for it.
    """
    layer = shape.layer
    reads_all = net.towers == 1 or shape.exchanged
    parts = [x] * net.towers if reads_all else _groups(graph, x, net.towers)
    outputs = []
    for i, part in enumerate(parts):
        tower = f"{layer.name}.tower{i + 1}"
        kernel = graph.constant(f"{tower}.weight", weights["kernel"][i])  # [H, W, size²·maps, F]
        bias = graph.constant(f"{tower}.bias", np.moveaxis(weights["bias"][i], -1, 0))
        patches = _patches(graph, part, layer, shape.out[0])  # [N, size²·maps, H, W]
        # MatMul multiplies the last two axes and takes [H, W] in front of them as a batch.
        patches = graph.add("Transpose", patches, perm=[2, 3, 0, 1])
        y = graph.add("Transpose", graph.add("MatMul", patches, kernel), perm=[2, 3, 0, 1])
        outputs.append(graph.add("Add", y, bias))
    return _joined(graph, outputs)


def _patches(graph: Graph, x: str, layer: Local, side: int) -> str:
    """Adds the patch of every place, [N, size²·maps, side, side], ordered (row, column, map)."""
    if layer.padding:
        # ONNX's order: first the padding before each of the four axes, then the padding after each.
        edges = [0, 0, layer.padding, layer.padding] * 2
        x = graph.add("Pad", x, graph.constant(f"{layer.name}.pads", edges, np.int64))
    axes = graph.constant("height_and_width", [2, 3], np.int64)
    slices = []
    for row in range(layer.size):
        for column in range(layer.size):
            # Named by their values, so that places that are equal are stored once.
            begin = graph.constant(f"place_{row}_{column}", [row, column], np.int64)
            end = [row + side, column + side]
            end = graph.constant(f"place_{end[0]}_{end[1]}", end, np.int64)
            slices.append(graph.add("Slice", x, begin, end, axes))
    return graph.add("Concat", *slices, axis=1)


def _lrn(graph: Graph, net: Net, shape: LayerShape, x: str, _: Weights) -> str:
    """Adds response normalisation over neighbouring maps, of a tower or of all towers."""
    layer, (side, _, maps) = shape.layer, shape.reads
    # ONNX divides alpha by the size of the window, our net does not.
    numbers = {"alpha": layer.alpha * layer.size, "beta": layer.beta, "bias": layer.k}
    by_tower = net.towers > 1 and not layer.across_towers
    if by_tower:  # each tower becomes an image of its own
        tower = [-1, maps // net.towers, side, side]
        x = graph.add("Reshape", x, graph.constant(f"{layer.name}.tower", tower, np.int64))
    x = graph.add("LRN", x, size=layer.size, **numbers)
    if by_tower:
        all_maps = graph.constant(f"{layer.name}.all", [-1, maps, side, side], np.int64)
        x = graph.add("Reshape", x, all_maps)
    return x


def _map_lrn(graph: Graph, net: Net, shape: LayerShape, x: str, _: Weights) -> str:
    """Adds normalisation over neighbouring places of one map.

    The sum of squares in a window is the window's mean square times size².
    """
    layer, half = shape.layer, shape.layer.size // 2
    mean = graph.add(
        "AveragePool",
        graph.add("Mul", x, x),
        kernel_shape=[layer.size] * 2,
        pads=_pads(half, 0),  # zeros: what lies beyond the edge adds nothing to the sum
        count_include_pad=1,  # divides by size² at the edges too, so that times size² is the sum
    )
    factor = graph.constant(f"{layer.name}.alpha", layer.alpha * layer.size**2)
    scaled = graph.add("Mul", mean, factor)
    base = graph.add("Add", scaled, graph.constant(f"{layer.name}.k", layer.k))
    power = graph.add("Pow", base, graph.constant(f"{layer.name}.beta", layer.beta))
    return graph.add("Div", x, power)


def _batch_norm(graph: Graph, net: Net, shape: LayerShape, x: str, weights: Weights) -> str:
    """Adds batch normalisation with the running averages, as in evaluation."""
    layer, names = shape.layer, ("scale", "bias", "mean", "variance")  # in ONNX's order
    arrays = (graph.constant(f"{layer.name}.{name}", np.ravel(weights[name])) for name in names)
    return graph.add("BatchNormalization", x, *arrays, epsilon=layer.epsilon)


def _pool(operator: str, **attributes: int) -> Callable[..., str]:
    """Returns the function that adds a kind of pooling.

    The part of a window that hangs over the edge does not count.
    """

    def pool(graph: Graph, net: Net, shape: LayerShape, x: str, _: Weights) -> str:
        layer = shape.layer
        return graph.add(
            operator,
            x,
            kernel_shape=[layer.size] * 2,
            strides=[layer.stride] * 2,
            pads=_pads(0, overhang(shape.reads[0], layer)),
            **attributes,
        )

    return pool


def _dropout(graph: Graph, net: Net, shape: LayerShape, x: str, _: Weights) -> str:
    """Adds dropout as in evaluation: a factor of 1 − rate, or nothing if it is inverted."""
    layer = shape.layer
    if layer.inverted:
        return x
    return graph.add("Mul", x, graph.constant(f"{layer.name}.kept", 1 - layer.rate))


def _activation(graph: Graph, net: Net, shape: LayerShape, x: str, _: Weights) -> str:
    return x  # `_layer` adds the activation of every layer


LAYERS: dict[type, Callable[..., str]] = {
    Conv: _conv,
    Local: _local,
    Dense: _dense,
    LRN: _lrn,
    MapLRN: _map_lrn,
    BatchNorm: _batch_norm,
    MaxPool: _pool("MaxPool"),
    AvgPool: _pool("AveragePool", count_include_pad=0),
    Activation: _activation,
    Dropout: _dropout,
}
