"""Explanations of a net's outputs: saliency, occlusion, Grad-CAM, deconvnet, preferred pictures.

Pure functions of a model and its parameters. `images` are float32 [N, crop, crop, 3] in the net's
own input scale, as `preprocess.view` makes them; `classes` are int [N].
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from alexnet_jax.nets.model import AlexNet
from alexnet_jax.nets.spec import (
    LRN,
    Activation,
    Layer,
    MapLRN,
    Net,
    StraightThrough,
    Weighted,
)

Array = jax.Array
ASCENTS_PER_BLUR = 4  # steps of gradient ascent from one blur to the next


def saliency(model: AlexNet, params: Any, images: Array, classes: Array) -> Array:
    """Computes max over RGB of |∂ logit ÷ ∂ pixel| (Simonyan et al., arXiv 1312.6034, section 3).

    Returns:
      float32 [N, crop, crop], 0 or more.
    """

    def logits(images: Array) -> Array:
        # One gradient for all images: no logit depends on another image.
        return _of_classes(model.apply({"params": params}, images)[0], classes).sum()

    return jnp.abs(jax.grad(logits)(images)).max(axis=-1)


def occlusion(
    model: AlexNet, params: Any, images: Array, classes: Array, size: int, stride: int
) -> Array:
    """Computes the class's loss of probability as a grey square covers each part of the image.

    Zeiler and Fergus, arXiv 1311.2901, section 4.2. The square holds zeros: the mean picture.

    Args:
      model, params, images, classes: as everywhere in this file.
      size: side of the square in pixels.
      stride: pixels between two positions of the square.

    Returns:
      float32 [N, P, P] for the P positions along each direction: probability of the plain image
      less that of the covered one.
    """
    square = jnp.zeros((len(images), size, size, 3), images.dtype)
    starts = jnp.arange(0, model.net.crop - size + 1, stride)

    def probabilities(images: Array) -> Array:
        return _of_classes(jax.nn.softmax(model.apply({"params": params}, images)[0]), classes)

    def covered(corner: Array) -> Array:
        return probabilities(lax.dynamic_update_slice(images, square, (0, *corner, 0)))

    corners = jnp.stack(jnp.meshgrid(starts, starts, indexing="ij"), axis=-1).reshape(-1, 2)
    # One position at a time: all of them at once would be a batch of hundreds for each picture.
    drops = probabilities(images) - lax.map(covered, corners)
    # lax.map puts the positions first.
    return drops.T.reshape(len(images), len(starts), len(starts))


def grad_cam(model: AlexNet, params: Any, images: Array, classes: Array, layer: str) -> Array:
    """Computes relu(Σ_k w_k A_k), with w_k the mean over all places of ∂ logit ÷ ∂ A_k.

    A_k is map k of the layer (Selvaraju et al., arXiv 1610.02391, equations 1 and 2).

    Returns:
      float32 [N, H, W], the size of the layer's maps.
    """

    def logits(offset: Array) -> tuple[Array, Array]:
        out, endpoints = model.apply({"params": params}, images, offsets={layer: offset})
        return _of_classes(out, classes).sum(), endpoints[layer]

    shape = jax.eval_shape(lambda x: model.apply({"params": params}, x)[1][layer], images)
    # An offset of zeros has the gradient of the layer's output, which is no argument of the net.
    gradient, maps = jax.grad(logits, has_aux=True)(jnp.zeros(shape.shape, shape.dtype))
    weights = gradient.mean(axis=(1, 2), keepdims=True)
    return jax.nn.relu((weights * maps).sum(axis=-1))


def deconvolve(model: AlexNet, params: Any, images: Array, layer: str) -> Array:
    """Projects the strongest unit of a layer back to the pixels with a deconvnet.

    On the way down, pooling puts each value back to the place of the maximum, rectifiers rectify
    the signal, kernels are transposed, and norms pass the signal on unchanged (Zeiler and Fergus,
    arXiv 1311.2901, section 2.1).

    Returns:
      float32 [N, crop, crop, 3]: the pattern that excited the unit, with either sign.
    """
    mirror = AlexNet(_deconvnet(model.net))
    outputs, project = jax.vjp(lambda x: mirror.apply({"params": params}, x)[1][layer], images)
    units = outputs.reshape(len(images), -1)  # over all maps and places
    # 0 but for the strongest unit, so that only its pattern is projected.
    strongest = units * jax.nn.one_hot(units.argmax(axis=-1), units.shape[-1])
    return project(strongest.reshape(outputs.shape))[0]


def preferred_pictures(
    model: AlexNet,
    params: Any,
    layer: str,
    units: Array,
    *,
    steps: int,
    rate: float,
    decay: float,
    key: Array,
) -> Array:
    """Finds pictures that excite units of a layer, by gradient ascent with a small L2 and blur.

    Yosinski et al., arXiv 1506.06579, section 3. Of a map, the unit in its centre is excited. A
    step adds the gradient, scaled to a root mean square of `rate`, then shrinks the picture by
    `decay`. Every fourth step ends with a blur.

    Args:
      model, params: the net.
      layer: its name.
      units: int [U], numbers of maps or units in the layer.
      steps: number of ascents, a multiple of 4.
      rate: root mean square of the change of the pixels in one step.
      decay: fraction by which a step shrinks the picture, from 0 to 1.
      key: random key of the noise that the ascent begins with.

    Returns:
      float32 [U, crop, crop, 3], in the net's input scale.
    """
    linear = AlexNet(_without_activation(model.net, layer))
    shape = (len(units), model.net.crop, model.net.crop, 3)

    def excitement(pictures: Array) -> Array:
        outputs = linear.apply({"params": params}, pictures)[1][layer]
        if outputs.ndim == 4:
            # Any place would do, but the pattern of the middle one is not cut off by the edge.
            outputs = outputs[:, outputs.shape[1] // 2, outputs.shape[2] // 2]
        return _of_classes(outputs, units).sum()

    def ascend(_: int, pictures: Array) -> Array:
        gradient = jax.grad(excitement)(pictures)
        size = jnp.sqrt((gradient**2).mean(axis=(1, 2, 3), keepdims=True))
        # Normalised, because gradients of early and late layers differ by orders of magnitude.
        # The bound keeps a gradient of zeros from becoming NaN.
        return (1 - decay) * (pictures + rate * gradient / jnp.maximum(size, 1e-30))

    def ascend_and_blur(_: int, pictures: Array) -> Array:
        return _blur(lax.fori_loop(0, ASCENTS_PER_BLUR, ascend, pictures))

    noise = rate * jax.random.normal(key, shape)
    return lax.fori_loop(0, steps // ASCENTS_PER_BLUR, ascend_and_blur, noise)


def _of_classes(scores: Array, classes: Array) -> Array:
    """Returns each row's score of its own class, [N], from [N, classes]."""
    return jnp.take_along_axis(scores, classes[:, None], axis=-1)[:, 0]


def _blur(images: Array) -> Array:
    """Averages each pixel with its neighbours by (1, 2, 1) ÷ 4 along rows and columns."""
    for axis in (1, 2):
        edges = [(0, 0)] * 4
        edges[axis] = (1, 1)
        # Edge pixels are repeated: zeros would draw a frame.
        padded, length = jnp.pad(images, edges, mode="edge"), images.shape[axis]
        before, after = (lax.slice_in_dim(padded, i, i + length, axis=axis) for i in (0, 2))
        images = (before + 2 * images + after) / 4
    return images


def _deconvnet(net: Net) -> Net:
    """Returns the same net with a deconvnet's backward pass."""

    def mirrored(layer: Layer) -> Layer:
        if isinstance(layer, LRN | MapLRN):
            return StraightThrough(layer)
        if isinstance(layer, Weighted | Activation) and layer.activation == "relu":
            return replace(layer, activation="deconv_relu")
        return layer

    return replace(net, layers=tuple(map(mirrored, net.layers)))


def _without_activation(net: Net, name: str) -> Net:
    """Returns the net without the activation of the named layer, or of the last one before it.

    A rectified unit that is silent has no gradient. Its input has one.
    """
    names = [getattr(layer, "name", None) for layer in net.layers]
    below = net.layers[: names.index(name) + 1]
    last = max(i for i, layer in enumerate(below) if isinstance(layer, Weighted | Activation))
    linear = replace(net.layers[last], activation=None)
    return replace(net, layers=(*net.layers[:last], linear, *net.layers[last + 1 :]))
