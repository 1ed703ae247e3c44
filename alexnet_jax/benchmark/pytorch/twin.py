"""The same net in PyTorch, for comparison: eager, NCHW, float32, with PyTorch's own layers.

It is built from the same tuple of layers. Towers are groups of a convolution, as is usual in
PyTorch; our program has a plain convolution for each tower.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping

import numpy as np
import torch
from ml_collections import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet_jax.benchmark.rates import rate
from alexnet_jax.nets.shapes import LayerShape, layer_shapes, overhang
from alexnet_jax.nets.spec import (
    LRN,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Exchange,
    Layer,
    Learned,
    Local,
    MapLRN,
    MaxPool,
    Net,
    Weighted,
)
from alexnet_jax.nets.variants import learned_layers, resolve
from alexnet_jax.optim.schedules import layer_factors
from alexnet_jax.optim.update import decays

ACTIVATIONS = {"relu": nn.ReLU(inplace=True), "tanh": nn.Tanh()}
PARAMETERS = {  # PyTorch's names of ours
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}


class ResponseNorm(nn.Module):
    """LRN over neighbouring maps of the same group."""

    def __init__(self, layer: LRN, groups: int) -> None:
        super().__init__()
        # PyTorch divides alpha by the size of the window, our net does not.
        self.norm = nn.LocalResponseNorm(layer.size, layer.alpha * layer.size, layer.beta, layer.k)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Normalises float32 [N, maps, H, W]."""
        number, maps, *place = x.shape
        # Each group becomes an image of its own, so that no window reaches into another group.
        return self.norm(x.view(number * self.groups, maps // self.groups, *place)).view_as(x)


class MapResponseNorm(nn.Module):
    """The norm over neighbouring places of one map."""

    def __init__(self, layer: MapLRN) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Normalises float32 [N, maps, H, W]."""
        layer = self.layer
        # The divisor is size² at the edges too (count_include_pad), so mean × size² is the sum.
        mean = F.avg_pool2d(x * x, layer.size, stride=1, padding=layer.size // 2)
        return x * (layer.k + layer.alpha * layer.size**2 * mean) ** -layer.beta


class Unshared(nn.Module):
    """A convolution whose kernel differs from place to place."""

    def __init__(self, layer: Local, shape: LayerShape, groups: int) -> None:
        super().__init__()
        towers, height, width, inputs, features = shape.kernel
        self.weight = nn.Parameter(torch.empty(towers, height * width, inputs, features))
        self.bias = nn.Parameter(torch.empty(towers * features, height, width))
        self.unfold = nn.Unfold(layer.size, padding=layer.padding)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Convolves float32 [N, maps, H, W] to [N, features, H', W']."""
        number, maps, *place = x.shape
        patches = self.unfold(x.view(number * self.groups, maps // self.groups, *place))
        patches = patches.view(number, self.groups, *patches.shape[1:])
        # n images, t towers, p numbers of a patch, l places, f features.
        y = torch.einsum("ntpl,tlpf->ntfl", patches, self.weight)
        return y.reshape(number, *self.bias.shape) + self.bias


class Dropped(nn.Module):
    """The paper's dropout, which is not inverted as PyTorch's is."""

    def __init__(self, layer: Dropout) -> None:
        super().__init__()
        self.dropout, self.scale = nn.Dropout(layer.rate), 1 - layer.rate

    def forward(self, x: Tensor) -> Tensor:
        """Drops units of x; rescales PyTorch's inverted dropout to the paper's."""
        # In a test PyTorch's does nothing, and ours multiplies by 1 − rate.
        return self.dropout(x) * self.scale


def twin(net: Net) -> nn.Sequential:
    """Returns the net as a PyTorch module from float32 [N, 3, crop, crop] to logits [N, classes].

    Modules with weights have the names of our layers. The weights of `Unshared` are not
    initialised: `load` has to set them.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    shapes, read = layer_shapes(net, net.crop), (net.crop, net.crop, 3)
    groups = 1  # of the next layer with weights; the first reads the image in every tower
    for layer in net.layers:
        if isinstance(layer, Exchange):
            groups = 1
            continue
        shape = next(shapes)
        modules |= _modules(layer, shape, read, groups, net.towers)
        activation = getattr(layer, "activation", None)
        if activation:
            modules[f"{layer.name}_activation"] = ACTIVATIONS[activation]
        read, groups = shape.out, net.towers if isinstance(layer, Weighted) else groups
    return nn.Sequential(modules)


def _modules(
    layer: Layer, shape: LayerShape, read: tuple[int, ...], groups: int, towers: int
) -> dict[str, nn.Module]:
    """Returns the modules of a layer, without its activation; it reads (height, width, maps)."""
    match layer:
        case Conv():
            return _convolution(layer, read, groups)
        case Dense():
            return _dense(layer, read, groups)
        case Local():
            module = Unshared(layer, shape, groups)
        case LRN():
            module = ResponseNorm(layer, 1 if layer.across_towers else towers)
        case MapLRN():
            module = MapResponseNorm(layer)
        case BatchNorm():
            # PyTorch's momentum weights the batch, our decay the running average.
            module = nn.BatchNorm2d(read[-1], layer.epsilon, momentum=1 - layer.decay)
        case MaxPool():
            module = nn.MaxPool2d(layer.size, layer.stride, ceil_mode=layer.ceil)
        case AvgPool():
            module = nn.AvgPool2d(layer.size, layer.stride, ceil_mode=layer.ceil)
        case Dropout():
            module = nn.Dropout(layer.rate) if layer.inverted else Dropped(layer)
        case _:
            return {}
    return {layer.name: module}


def _convolution(layer: Conv, read: tuple[int, ...], groups: int) -> dict[str, nn.Module]:
    side, _, maps = read
    near, over = layer.padding, overhang(side, layer)
    # Conv2d pads all four edges equally; windows that hang over need more on the right and below.
    pad = {f"{layer.name}_pad": nn.ZeroPad2d((near, near + over) * 2)} if over else {}
    padding = 0 if over else near
    how = {"stride": layer.stride, "padding": padding, "bias": layer.bias is not None}
    conv = nn.Conv2d(maps, layer.features, layer.size, groups=groups, **how)
    return {**pad, layer.name: conv}


def _dense(layer: Dense, read: tuple[int, ...], groups: int) -> dict[str, nn.Module]:
    """Returns a linear layer; for towers that do not exchange, a grouped full-map convolution."""
    flat = {f"{layer.name}_flat": nn.Flatten()}
    if groups == 1:
        return {**flat, layer.name: nn.Linear(math.prod(read), layer.features)}
    side, maps = _side(read), read[-1]
    shaped = {f"{layer.name}_map": nn.Unflatten(1, (maps, side, side))}
    # PyTorch has no grouped linear layer.
    conv = nn.Conv2d(maps, layer.features, side, groups=groups)
    return {**flat, **shaped, layer.name: conv}


def _side(read: tuple[int, ...]) -> int:
    return read[0] if len(read) == 3 else 1


def load(module: nn.Sequential, net: Net, params: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Copies our weights into the twin: axes are permuted, numbers stay unchanged."""
    read = (net.crop, net.crop, 3)
    for shape in layer_shapes(net, net.crop):
        for name in shape.arrays:
            ours = np.asarray(params[shape.layer.name][name])
            theirs = getattr(module.get_submodule(shape.layer.name), PARAMETERS[name])
            theirs.data = torch.tensor(_permuted(shape.layer, read, name, ours)).view_as(theirs)
        read = shape.out


def _permuted(layer: Learned, read: tuple[int, ...], name: str, array: np.ndarray) -> np.ndarray:
    """Returns our parameter, tower axis first and maps last, in PyTorch's order of axes."""
    towers, features = array.shape[0], array.shape[-1]
    if name != "kernel":
        return np.moveaxis(array, -1, 1).copy()
    if isinstance(layer, Local):
        places = array.shape[1] * array.shape[2]
        # Our patch is in the order (row, column, map), that of nn.Unfold (map, row, column).
        windows = array.reshape(towers, places, layer.size, layer.size, -1, features)
        return np.moveaxis(windows, 4, 2).copy()
    if isinstance(layer, Dense):
        array = array.reshape(towers, _side(read), _side(read), -1, features)
    return array.transpose(0, 4, 3, 1, 2).copy()


def make_optimizer(module: nn.Sequential, net: Net, settings: ConfigDict) -> torch.optim.SGD:
    """Returns SGD with momentum, with the initial rate and the weight decay of every layer."""
    # Its velocity is not multiplied by the rate as ours is, which is the same at a constant rate.
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    weight_decays, factors = decays(settings, net), layer_factors(settings, net)
    for name, layer in learned_layers(net).items():
        own, rate = module.get_submodule(name), settings.learning_rate * factors[name]
        groups.setdefault((rate, weight_decays[name][layer.weights]), []).append(own.weight)
        if own.bias is not None:
            groups.setdefault((rate * settings.bias_multiplier, 0.0), []).append(own.bias)
    return torch.optim.SGD(
        [{"params": x, "lr": rate, "weight_decay": decay} for (rate, decay), x in groups.items()],
        momentum=settings.momentum,
    )


def make_step(
    config: ConfigDict, net: Net, params: Mapping[str, Mapping[str, np.ndarray]], device: str
) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns a training step: (float32 [N, 3, crop, crop], int64 labels [N]) → the loss."""
    module = twin(net)
    load(module, net, params)
    module.to(device).train()
    optimizer = make_optimizer(module, net, config.optim)

    def step(images: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(module(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def step_rate(
    config: ConfigDict, params: Mapping[str, Mapping[str, np.ndarray]], threads: int, on_gpu: bool
) -> Callable[[float], float]:
    """Returns a function that measures the step on one batch in images per second.

    The float batch stays on the device: nothing is cropped, mirrored or converted. The argument of
    the function is the shortest duration in seconds.
    """
    torch.set_num_threads(threads)
    net, number = resolve(config.model, config.data.crop_size), config.data.batch_size
    device = "cuda" if on_gpu and torch.cuda.is_available() else "cpu"
    step = make_step(config, net, params, device)
    # 60: about the deviation of pixels from their mean.
    images = 60 * torch.randn(number, 3, net.crop, net.crop, device=device)
    labels = torch.randint(config.model.num_classes, (number,), device=device)
    step(images, labels)
    # Tensor.item waits until the GPU has computed the loss.
    return lambda seconds: rate(lambda: step(images, labels), number, seconds, Tensor.item)
