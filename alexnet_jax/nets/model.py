"""The Linen module that runs a net, a tuple of layers, on one or several towers."""

import math
import zlib

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from alexnet_jax import parallel
from alexnet_jax.errors import UserError
from alexnet_jax.nets import ops, pooling
from alexnet_jax.nets.shapes import LayerShape, walk, window_places
from alexnet_jax.nets.variants import resolve
from alexnet_jax.nets.zoo import (
    LRN,
    WEIGHTED,
    Activation,
    AvgPool,
    Conv,
    Dense,
    Dropout,
    Exchange,
    Layer,
    Local,
    MapLRN,
    MaxPool,
    Net,
)
from alexnet_jax.parallel import Layout, Part

Array = jax.Array
Towers = list[Array]


def _normal(std: float) -> nn.initializers.Initializer:
    """Normal numbers of this std. Drawn flat: the same ones compile ten times faster that way."""

    def init(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
        flat = shape if len(shape) <= 3 else (shape[0], math.prod(shape[1:]))
        return std * jax.random.normal(key, flat, dtype).reshape(shape)

    return init


class Parameters(nn.Module):
    """One layer's kernel and bias, stacked on a leading axis over the towers that are held here."""

    shape: LayerShape
    layout: Layout

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        """Kernel and bias, in float32: this device's part of the shapes that `shape` states."""
        layer = self.shape.layer
        kernel, bias = (
            parallel.local_shape(shape, layer, self.layout)
            for shape in (self.shape.kernel, self.shape.bias)
        )
        return (
            self.param("kernel", _normal(layer.std), kernel),
            self.param("bias", nn.initializers.constant(layer.bias), bias),
        )


class AlexNet(nn.Module):
    """Any net of architectures.py.

    The towers are looped over, each with plain convolutions: a grouped convolution, or a vmap
    over the towers, is three to five times slower. With a `layout` of several devices this is
    what one of them computes, under jax.shard_map; parameters are initialised without one.
    """

    net: Net
    layout: Layout = Layout()

    @nn.compact
    def __call__(
        self, images: Array, train: bool = False, part: Part = (0, 1)
    ) -> tuple[Array, dict[str, Array]]:
        """Classifies images.

        Args:
          images: float32 [N, crop, crop, 3], RGB, in the net's own input scale.
          train: drops units; then `rngs={"dropout": key}` is needed.
          part: (i, n) = the images are the i-th of n equal parts of the batch.

        Returns:
          logits [N, num_classes], and every layer's output by its name: [N, H, W, maps] or
          [N, units], the towers' maps side by side.

        Raises:
          UserError: images of another size than the net was built for.
        """
        if images.shape[1:] != (self.net.crop, self.net.crop, 3):
            raise UserError(
                f"images of shape {images.shape[1:]} for a net of "
                f"{(self.net.crop, self.net.crop, 3)}; crop them or change data.crop_size"
            )
        key = self.make_rng("dropout") if train and self._drops() else None
        shapes = {shape.layer.name: shape for shape in walk(self.net, self.net.crop)}
        towers = [images] * (self.net.towers // self.layout.tower)
        endpoints, exchange, wide = {}, False, False
        for layer in self.net.layers:
            if isinstance(layer, Exchange):
                exchange = True
                continue
            if isinstance(layer, WEIGHTED):
                towers = self._read(layer, towers, exchange, wide)
                exchange, wide = False, wide or (self.layout.hybrid and isinstance(layer, Dense))
                parameters = Parameters(shapes[layer.name], self.layout, name=layer.name)()
                towers = _weighted(layer, towers, parameters)
            elif isinstance(layer, Dropout):
                towers = self._dropout(layer, towers, key, wide, part)
            else:
                towers = _plain(layer, towers)
            endpoints[layer.name] = jnp.concatenate(towers, axis=-1)
        return towers[0], endpoints

    def _drops(self) -> bool:
        return any(isinstance(layer, Dropout) for layer in self.net.layers)

    def _read(self, layer: Layer, towers: Towers, exchange: bool, wide: bool) -> Towers:
        """What a layer with weights reads on each tower.

        wide: a dense layer of the hybrid scheme came before, so units are split, not the batch.
        """
        whole, split = getattr(layer, "whole", False), isinstance(layer, Dense)
        if self.layout.hybrid and split and wide:
            towers = parallel.whole_units(towers, whole)
        if exchange:
            towers = parallel.exchanged(towers, self.layout, whole)
        if self.layout.hybrid and split and not wide:
            towers = parallel.whole_batch(towers, whole)
        return towers

    def _dropout(
        self, layer: Dropout, towers: Towers, key: Array | None, wide: bool, part: Part
    ) -> Towers:
        """One mask over the batch and all units, of which each device and tower takes its part."""
        masks = [None] * len(towers)
        if key is not None:
            data = self.layout.data
            examples, *places, units = towers[0].shape
            units *= self.net.towers * (data if wide else 1)
            shape = (examples * part[1] * (1 if wide else data), *places, units)
            layer_key = jax.random.fold_in(key, zlib.crc32(layer.name.encode()))
            mask = jax.random.bernoulli(layer_key, 1 - layer.rate, shape)
            mask = mask if wide else parallel.rows(mask, self.layout)
            mask = parallel.part_rows(mask, part, data if wide else 1)
            masks = parallel.units(mask, self.net.towers, wide, self.layout)
        return [
            ops.dropout(x, kept, rate=layer.rate, inverted=layer.inverted)
            for x, kept in zip(towers, masks, strict=True)
        ]


def _weighted(layer: Layer, towers: Towers, parameters: tuple[Array, Array]) -> Towers:
    """A layer with weights on each tower; the whole classifier has a single one."""
    kernels, biases = parameters
    outputs = []
    for x, kernel, bias in zip(towers, kernels, biases, strict=False):
        if isinstance(layer, Dense):
            y = ops.dense(x, kernel, bias)
        elif isinstance(layer, Local):
            y = ops.local(x, kernel, bias, padding=layer.padding)
        else:
            y = ops.conv(
                x, kernel, bias, stride=layer.stride, padding=layer.padding, over=_over(layer, x)
            )
        outputs.append(_activated(y, layer.activation))
    return outputs


def _plain(layer: Layer, towers: Towers) -> Towers:
    """A layer without weights or chance on each tower."""
    if isinstance(layer, LRN) and layer.across_towers:
        return jnp.split(_without_weights(layer, jnp.concatenate(towers, -1)), len(towers), -1)
    return [_without_weights(layer, x) for x in towers]


def _without_weights(layer: Layer, x: Array) -> Array:
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
    return pool(x, size=layer.size, stride=layer.stride, over=_over(layer, x))


def _activated(x: Array, activation: str | None) -> Array:
    return ops.ACTIVATIONS[activation](x) if activation else x


def _over(layer: Conv | MaxPool | AvgPool, x: Array) -> int:
    padding = getattr(layer, "padding", 0)
    places = window_places(x.shape[1], layer)
    return ops.overhang(x.shape[1], places, layer.size, layer.stride, padding)


def build_model(config: ConfigDict) -> AlexNet:
    """The net that `config.model` and `config.data.crop_size` describe.

    Raises:
      UserError: num_classes unset, or whatever variants.resolve refuses.
    """
    if config.model.num_classes is None:
        raise UserError("model.num_classes is unset; set it, or let main take it from the data")
    return AlexNet(resolve(config.model, config.data.crop_size))


def on_devices(model: AlexNet, layout: Layout) -> AlexNet:
    """The same net as one device of the layout computes it."""
    return AlexNet(model.net, layout)
