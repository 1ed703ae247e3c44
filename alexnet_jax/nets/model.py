"""The Linen module that computes a net: it runs the layers of a `spec.Net` on each tower."""

import math
import zlib
from collections.abc import Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from ml_collections import ConfigDict

from alexnet_jax import parallel
from alexnet_jax.errors import UserError
from alexnet_jax.nets import ops, pooling
from alexnet_jax.nets.placement import BATCH, TOWERS, UNITS, PlacedLayer, place
from alexnet_jax.nets.shapes import overhang
from alexnet_jax.nets.spec import (
    LRN,
    STATISTICS,
    Activation,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Layer,
    Local,
    MapLRN,
    MaxPool,
    Net,
    StraightThrough,
    Weighted,
)
from alexnet_jax.nets.variants import resolve
from alexnet_jax.parallel import Layout

Array = jax.Array
Towers = list[Array]  # one array for each tower on this device
GATHERS = {
    UNITS: parallel.gather_units,
    TOWERS: parallel.gather_towers,
    BATCH: parallel.gather_batch,
}


def _normal(std: float) -> nn.initializers.Initializer:
    """Returns an initialiser of normal numbers with mean 0 and this standard deviation."""

    def init(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
        # Drawn as a matrix: the same numbers compile ten times faster than with five axes.
        flat = shape if len(shape) <= 3 else (shape[0], math.prod(shape[1:]))
        return std * jax.random.normal(key, flat, dtype).reshape(shape)

    return init


class Parameters(nn.Module):
    """One layer's kernel and bias, stacked on a leading axis over the towers on this device."""

    placed: PlacedLayer

    @nn.compact
    def __call__(self) -> dict[str, Array]:
        """Returns this device's float32 `kernel` and, unless the layer has none, `bias`.

        Their shapes are those of `PlacedLayer.shard_shape`, such as (towers, size, size, C, F).
        """
        layer, arrays = self.placed.shape.layer, self.placed.shape.arrays
        # Only the initialisers of the layer's own arrays are called: a bias of None is never drawn.
        draws = {"kernel": _normal(layer.std), "bias": nn.initializers.constant(layer.bias)}
        return {
            name: self.param(name, draws[name], self.placed.shard_shape(shape))
            for name, shape in arrays.items()
        }


class BatchNormalised(nn.Module):
    """Batch normalisation of the maps of the towers on this device, with its parameters."""

    placed: PlacedLayer

    @nn.compact
    def __call__(self, towers: Towers, mask: Array | None) -> Towers:
        """Normalises each tower's maps.

        Args:
          towers: float [N, …, maps] of each.
          mask: float32 [N], 1 for an image and 0 for padding. With a mask, the moments are those of
            this batch, and are stored in the collection "batch_stats". None takes the running
            averages.

        Returns:
          The towers, normalised.
        """
        layer, ones, zeros = self.placed.shape.layer, nn.initializers.ones, nn.initializers.zeros
        shape = self.placed.shard_shape(self.placed.shape.bias)
        scale, bias = self.param("scale", ones, shape), self.param("bias", zeros, shape)
        # The averages are asked for only if they are used: the training step passes params without.
        if mask is None:
            mean, variance = self.param("mean", zeros, shape), self.param("variance", ones, shape)
        else:
            sums = self.placed.sum_over_batch
            moments = [ops.batch_moments(x, mask, sums) for x in towers]
            mean, variance = map(jnp.stack, zip(*moments, strict=True))
            for name, values in zip(STATISTICS, (mean, variance), strict=True):
                # The lambdas store the array itself: by default, sow appends it to a tuple.
                self.sow("batch_stats", name, values, lambda _, new: new, lambda: None)
        each = zip(towers, mean, variance, scale, bias, strict=True)
        return [ops.batch_norm(*arrays, layer.epsilon) for arrays in each]


class AlexNet(nn.Module):
    """Any net of `nets.zoo`.

    The towers are computed in a loop, each with plain convolutions: a grouped convolution, or a
    vmap over the towers, is three to five times slower on a CPU.

    Attributes:
      net: resolved (`variants.resolve`).
      layout: of the devices. With several, `apply` computes one device's share and has to run under
        jax.shard_map. Parameters are initialised by a module with the default, a single device.
    """

    net: Net
    layout: Layout = Layout()

    @nn.compact
    def __call__(
        self,
        images: Array,
        train: bool = False,
        examples: Array | None = None,
        mask: Array | None = None,
        offsets: Mapping[str, Array] = MappingProxyType({}),
    ) -> tuple[Array, dict[str, Array]]:
        """Classifies images.

        Args:
          images: float32 [N, crop, crop, 3], RGB, in the net's own input scale.
          train: True drops units, which needs `rngs={"dropout": key}`, and lets batch normalisation
            take the moments of this batch, which `mutable=["batch_stats"]` returns.
          examples: int32 [N], positions of the images in the batch; default 0 … N − 1. They and the
            key decide which units are dropped.
          mask: float32 [N], 1 for an image and 0 for padding; default all 1. The moments of batch
            normalisation leave padding out.
          offsets: {layer: array of the shape of the layer's output}, added to these outputs. The
            gradient with respect to an offset of zeros is the gradient with respect to the output.

        Returns:
          The logits, [N, num_classes], and the output of every layer by name: [N, H, W, maps] or
          [N, units], with the maps of the towers side by side. In the hybrid scheme the logits have
          the rows of the whole batch.

        Raises:
          UserError: the images are of another size than the net was built for.
        """
        if images.shape[1:] != (self.net.crop, self.net.crop, 3):
            raise UserError(
                f"images of shape {images.shape[1:]} for a net of "
                f"{(self.net.crop, self.net.crop, 3)}; crop them or change data.crop_size"
            )
        drops = train and any(isinstance(layer, Dropout) for layer in self.net.layers)
        key = self.make_rng("dropout") if drops else None
        examples = jnp.arange(len(images)) if examples is None else examples
        mask = jnp.ones(len(images)) if mask is None else mask
        # Every tower reads the images in all three colours: only maps are divided.
        towers = [images] * (self.net.towers // self.layout.tower)
        endpoints = {}
        for placed in place(self.net, self.layout):
            layer = placed.shape.layer
            if isinstance(layer, Weighted):
                for gather in placed.gathers:
                    towers = GATHERS[gather.of](towers, self.layout, placed.replicated)
                    if drops and gather.of == BATCH:  # the rows are now those of all devices
                        examples = parallel.gather_labels(examples, self.layout)
                parameters = Parameters(placed, name=layer.name)()
                towers = _weighted(layer, towers, parameters)
            elif isinstance(layer, BatchNorm):
                normalise = BatchNormalised(placed, name=layer.name)
                towers = normalise(towers, mask if train else None)
            elif isinstance(layer, Dropout):
                towers = _dropped(layer, towers, self._masks(placed, towers, key, examples))
            else:
                towers = _unweighted(layer, towers)
            if layer.name in offsets:
                towers = _shifted(towers, offsets[layer.name])
            endpoints[layer.name] = jnp.concatenate(towers, axis=-1)
        # The classifier is not divided over the towers: it leaves a single output.
        return towers[0], endpoints

    def _masks(
        self, placed: PlacedLayer, towers: Towers, key: Array | None, examples: Array
    ) -> list[Array | None]:
        """Returns each tower's bool mask of the units to keep, [N, …]; None without a key (tests).

        A mask is a function of (key, layer, example, tower) only, so that the same units are
        dropped on any number of devices.
        """
        if key is None:
            return [None] * len(towers)
        layer, split = placed.shape.layer, placed.unit_shares > 1
        # crc32, because Python's own hash of a string differs from process to process.
        key = jax.random.fold_in(key, zlib.crc32(layer.name.encode()))
        shape = (*towers[0].shape[1:-1], towers[0].shape[-1] * placed.unit_shares)

        def mask_of(example: Array, tower: Array) -> Array:
            own = jax.random.fold_in(jax.random.fold_in(key, example), tower)
            mask = jax.random.bernoulli(own, 1 - layer.rate, shape)
            # Drawn for all units of the tower: a draw of this device's units alone would differ.
            return parallel.own_units(mask, self.layout) if split else mask

        of_tower = jax.vmap(mask_of, in_axes=(0, None))
        indices = parallel.tower_indices(self.net.towers, self.layout)
        return [of_tower(examples, index) for index in indices]


def _weighted(layer: Weighted, towers: Towers, parameters: dict[str, Array]) -> Towers:
    """Computes a layer with weights on each tower, with that tower's kernel and bias."""
    outputs, kernels = [], parameters["kernel"]
    biases = parameters.get("bias", [None] * len(kernels))
    # Not strict: the classifier has one kernel, and after the exchange all towers are the same.
    for x, kernel, bias in zip(towers, kernels, biases, strict=False):
        if isinstance(layer, Dense):
            y = ops.dense(x, kernel, bias)
        elif isinstance(layer, Local):
            y = ops.local(x, kernel, bias, padding=layer.padding)
        else:
            y = _conv(layer, x, kernel, bias)
        outputs.append(_activated(y, layer.activation))
    return outputs


def _conv(layer: Conv, x: Array, kernel: Array, bias: Array | None) -> Array:
    over = overhang(x.shape[1], layer)
    return ops.conv(x, kernel, bias, stride=layer.stride, padding=layer.padding, over=over)


def _unweighted(layer: Layer, towers: Towers) -> Towers:
    """Computes a layer without weights or random numbers on each tower."""
    if isinstance(layer, StraightThrough):
        outputs = _unweighted(layer.norm, towers)
        # The value is y, the gradient that of x.
        return [x + lax.stop_gradient(y - x) for x, y in zip(towers, outputs, strict=True)]
    if isinstance(layer, LRN) and layer.across_towers:
        return jnp.split(_single(layer, jnp.concatenate(towers, -1)), len(towers), -1)
    return [_single(layer, x) for x in towers]


def _dropped(layer: Dropout, towers: Towers, masks: list[Array | None]) -> Towers:
    """Drops the units of each tower that are False in its mask; a mask of None means a test."""
    return [
        ops.dropout(x, mask, rate=layer.rate, inverted=layer.inverted)
        for x, mask in zip(towers, masks, strict=True)
    ]


def _shifted(towers: Towers, offset: Array) -> Towers:
    """Adds to each tower its maps of an offset, which is [N, …, maps of all towers]."""
    shares = jnp.split(offset, len(towers), axis=-1)
    return [x + share for x, share in zip(towers, shares, strict=True)]


def _single(layer: Layer, x: Array) -> Array:
    match layer:
        case LRN():
            return ops.response_norm(x, (3,), layer.size, layer.k, layer.alpha, layer.beta)
        case MapLRN():
            return ops.response_norm(x, (1, 2), layer.size, layer.k, layer.alpha, layer.beta)
        case MaxPool():
            pool = pooling.max_pool
        case AvgPool():
            pool = pooling.avg_pool
        case Activation():
            return _activated(x, layer.activation)
    over = overhang(x.shape[1], layer)
    return pool(x, size=layer.size, stride=layer.stride, over=over)


def _activated(x: Array, activation: str | None) -> Array:
    return ops.ACTIVATIONS[activation](x) if activation else x


def build_model(config: ConfigDict) -> AlexNet:
    """Returns the net that config.model and config.data.crop_size describe, for one device.

    Raises:
      UserError: model.num_classes is unset, or the net cannot be built (`variants.resolve`).
    """
    if config.model.num_classes is None:
        raise UserError("model.num_classes is unset; set it, or let main take it from the data")
    return AlexNet(resolve(config.model, config.data.crop_size))


def on_devices(model: AlexNet, layout: Layout) -> AlexNet:
    """Returns the same net as one device of the layout computes it."""
    return AlexNet(model.net, layout)
