"""An exported ONNX model computes in onnxruntime what our net computes."""

from dataclasses import dataclass, replace

import jax
import numpy as np
import onnx
import onnxruntime
import pytest

import alexnet_jax
from alexnet_jax.errors import UserError
from alexnet_jax.weights.onnx_graph import onnx_model
from configs import base

# Crops at which the last windows of convolutions and of pools hang over the edge.
CASES = {
    "alexnet": {"crop": 76},
    "alexnet_original": {"crop": 76},
    "caffenet": {"crop": 79},
    "one_weird_trick": {"crop": 79},
    "alexnet_batch_norm": {"crop": 76},
    "cuda_convnet_18pct": {"crop": 25},
    "cuda_convnet_11pct": {"crop": 24},  # locally connected layers
    "alexnet of four towers": {"crop": 76, "towers": 4, "activation": "tanh"},
    "alexnet with towers apart": {"crop": 76, "exchange": ("conv2", "fc8")},
    "cuda_convnet_11pct of two towers": {"crop": 24, "towers": 2, "exchange": ("local4", "fc10")},
}


def small_net(name, crop, **changes):
    """A model of small width, its parameters, and the mean and scale of its input."""
    config = base.get_config()
    config.model.update(name=name.split(" ")[0], num_classes=7, width=0.125, **changes)
    config.data.crop_size = crop
    model, rng = alexnet_jax.build_model(config), np.random.default_rng(0)
    images = np.zeros((1, crop, crop, 3), np.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images))["params"]

    def draw(path, shape):
        if path[-1].key == "bias":
            return rng.normal(0.1, 0.1, shape.shape).astype(np.float32)
        if path[-1].key != "kernel":  # of batch normalisation
            return rng.uniform(0.5, 2, shape.shape).astype(np.float32)
        std = np.sqrt(2 / model_fan_in(shape.shape))
        return (std * rng.normal(size=shape.shape)).astype(np.float32)

    params = jax.tree_util.tree_map_with_path(draw, shapes)
    mean = rng.uniform(90, 150, (crop, crop, 3)).astype(np.float32)
    return model, params, mean, np.float32([0.02, 0.03, 0.04])


def model_fan_in(kernel):
    """Of [towers, rows, columns, in, out] and [towers, in, out]; an upper bound for local ones."""
    return np.prod(kernel[1:-1])


@pytest.mark.parametrize("name", CASES)
def test_logits_and_probabilities_are_those_of_our_net(name):
    model, params, mean, scale = small_net(name, **CASES[name])
    crop = model.net.crop
    pixels = np.random.default_rng(1).integers(0, 256, (3, crop, crop, 3)).astype(np.float32)
    logits, _ = jax.jit(model.apply)({"params": params}, (pixels - mean) * scale)
    exported = onnx_model(model.net, params, mean, scale, {"net": name})
    session = onnxruntime.InferenceSession(exported.SerializeToString())
    ours, probabilities = session.run(None, {"images": pixels.transpose(0, 3, 1, 2)})
    assert np.std(logits, axis=0).min() > 1e-3 * np.abs(logits).max()  # images differ
    np.testing.assert_allclose(ours, logits, atol=1e-5 * np.abs(logits).max())
    np.testing.assert_allclose(probabilities, jax.nn.softmax(logits), atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map == {"net": name}


def test_the_graph_is_of_few_standard_nodes_with_our_layers_names():
    model, params, mean, scale = small_net("alexnet", crop=76)
    graph = onnx_model(model.net, params, mean, scale, {}).graph
    kinds = {node.output[0]: node for node in graph.node}
    layers = [layer.name for layer in model.net.layers if hasattr(layer, "name")]
    assert [name for name in kinds if name in layers] == layers
    groups = {
        node.input[1]: onnx.helper.get_node_attr_value(node, "group")
        for node in graph.node
        if node.op_type == "Conv"
    }
    assert list(groups.values()) == [1, 2, 1, 2, 2]  # conv1 and conv3 read all, the others a tower
    assert len(graph.node) < 35


@dataclass(frozen=True)
class Unknown:
    name: str


def test_a_layer_that_onnx_cannot_hold_is_named():
    model, params, mean, scale = small_net("cuda_convnet_18pct", crop=32)
    net = replace(model.net, layers=(Unknown("mystery"), *model.net.layers))
    with pytest.raises(UserError, match="layer 'mystery' is a Unknown, which cannot be written"):
        onnx_model(net, params, mean, scale, {})
