"""Every net as data: a tuple of layers, and the arithmetic of their shapes.

Sources: the paper (Krizhevsky, Sutskever, Hinton, NIPS 2012); the code released in 2025,
`layers/layers-145.cfg` and `example-layers/`; Caffe's `bvlc_alexnet` and
`bvlc_reference_caffenet`; torchvision's `alexnet.py`. README.md tells where they disagree.

Layers are plain frozen dataclasses: shapes.py works out their sizes, variants.py applies a config's
changes, layers.py computes them and model.py runs them.
"""

from dataclasses import dataclass

SMALL = 0.03  # the released code's initial std of conv3, conv4 and conv5


@dataclass(frozen=True)
class Conv:
    """A convolution with one bias per map, then the activation.

    `std` and `bias` are initial values (std None: PyTorch's default variance, 1 ÷ 3 fan-in);
    `ceil` lets the last window hang over the far edge, where it reads zeros, as cuda-convnet does;
    `rate` multiplies both learning rates (0 = frozen); `weight_decay` None = the config's.
    """

    name: str
    features: int
    size: int
    stride: int = 1
    padding: int = 0
    ceil: bool = False
    activation: str | None = "relu"
    std: float | None = 0.01
    bias: float = 0.0
    rate: float = 1.0
    weight_decay: float | None = None


@dataclass(frozen=True)
class Local:
    """A convolution whose kernel and bias differ from place to place (stride 1)."""

    name: str
    features: int
    size: int
    padding: int = 0
    activation: str | None = "relu"
    std: float | None = 0.01
    bias: float = 0.0
    rate: float = 1.0
    weight_decay: float | None = None


@dataclass(frozen=True)
class Dense:
    """A fully connected layer.

    The classifier has `features` None, filled in with the number of classes, and is `whole`: one
    unit reads all of the layer below, and it is not divided among the towers.
    """

    name: str
    features: int | None
    activation: str | None = "relu"
    std: float | None = 0.01
    bias: float = 0.0
    rate: float = 1.0
    weight_decay: float | None = None
    whole: bool = False


@dataclass(frozen=True)
class LRN:
    """x ÷ (k + alpha Σ x²)^beta over `size` neighbouring maps; alpha is not divided by size.

    `across_towers`: the window reads over the border between towers (Caffe), or stays inside.
    """

    name: str
    size: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75
    across_towers: bool = False


@dataclass(frozen=True)
class MapLRN:
    """The same over `size`×`size` places of one map (cuda-convnet's `rnorm`)."""

    name: str
    size: int
    k: float
    alpha: float
    beta: float = 0.75


@dataclass(frozen=True)
class MaxPool:
    """Maximum over windows; `ceil`: the last window may hang over the far edge."""

    name: str
    size: int = 3
    stride: int = 2
    ceil: bool = True


@dataclass(frozen=True)
class AvgPool:
    """Mean over the part of each window that lies inside the map."""

    name: str
    size: int = 3
    stride: int = 2
    ceil: bool = True


@dataclass(frozen=True)
class Activation:
    """A nonlinearity that stands alone, where the released code puts it after a pool."""

    name: str
    activation: str = "relu"


@dataclass(frozen=True)
class Dropout:
    """Drops units with probability `rate`; not inverted: tests multiply by 1 − rate (§4.2)."""

    name: str
    rate: float = 0.5
    inverted: bool = False


@dataclass(frozen=True)
class Exchange:
    """The next layer with weights reads the maps of all towers."""


Layer = Conv | Local | Dense | LRN | MapLRN | MaxPool | AvgPool | Activation | Dropout | Exchange
WEIGHTED = (Conv, Local, Dense)
NORMS = (LRN, MapLRN)
POOLS = (MaxPool, AvgPool)


@dataclass(frozen=True)
class Net:
    """A net: its layers, how many towers it is divided into, and its input side in pixels."""

    layers: tuple[Layer, ...]
    crop: int
    towers: int = 1


def _fully_connected(std: float | None, bias: float, inverted: bool) -> tuple[Layer, ...]:
    """fc6, fc7 and fc8 with dropout behind the first two, the towers exchanging before each."""
    return (
        Exchange(),
        Dense("fc6", 4096, std=std, bias=bias),
        Dropout("drop6", inverted=inverted),
        Exchange(),
        Dense("fc7", 4096, std=std, bias=bias),
        Dropout("drop7", inverted=inverted),
        Exchange(),
        Dense("fc8", None, None, whole=True),
    )


_ALEXNET = (
    Conv("conv1", 96, 11, stride=4, ceil=True),
    LRN("norm1"),
    MaxPool("pool1"),
    Conv("conv2", 256, 5, padding=2, bias=1.0),
    LRN("norm2"),
    MaxPool("pool2"),
    Exchange(),
    Conv("conv3", 384, 3, padding=1),
    Conv("conv4", 384, 3, padding=1, bias=1.0),
    Conv("conv5", 256, 3, padding=1, bias=1.0),
    MaxPool("pool5"),
)

_ALEXNET_ORIGINAL = (
    Conv("conv1", 96, 11, stride=4, ceil=True, activation=None),
    LRN("norm1", alpha=2e-5),
    MaxPool("pool1"),
    Activation("relu1"),
    Conv("conv2", 256, 5, padding=2, bias=1.0),
    LRN("norm2", alpha=2e-5),
    MapLRN("mapnorm2", size=5, k=1.0, alpha=0.001 / 25),
    MaxPool("pool2"),
    Exchange(),
    Conv("conv3", 384, 3, padding=1, std=SMALL),
    Conv("conv4", 384, 3, padding=1, std=SMALL, bias=1.0),
    Conv("conv5", 256, 3, padding=1, std=SMALL, bias=1.0, activation=None),
    MaxPool("pool5"),
    Activation("relu5"),
)

_ALEXNET_HALF = (
    Conv("conv1", 48, 11, stride=4, ceil=True),
    LRN("norm1"),
    MaxPool("pool1"),
    Conv("conv2", 128, 5, padding=2, bias=1.0),
    LRN("norm2"),
    MaxPool("pool2"),
    Conv("conv3", 192, 3, padding=1),
    Conv("conv4", 192, 3, padding=1, bias=1.0),
    Conv("conv5", 256, 3, padding=1, bias=1.0),
    MaxPool("pool5"),
)

_CONV6 = (Exchange(), Conv("conv6", 256, 3, padding=1, bias=1.0))


def _caffe(norms_first: bool, bias: float) -> tuple[Layer, ...]:
    """Caffe's two nets: they differ in the order of norm and pool and in the initial biases."""

    def norm_and_pool(number: int) -> tuple[Layer, ...]:
        norm = LRN(f"norm{number}", k=1.0, alpha=2e-5, across_towers=True)
        pool = MaxPool(f"pool{number}")
        return (norm, pool) if norms_first else (pool, norm)

    return (
        Conv("conv1", 96, 11, stride=4),
        *norm_and_pool(1),
        Conv("conv2", 256, 5, padding=2, bias=bias),
        *norm_and_pool(2),
        Exchange(),
        Conv("conv3", 384, 3, padding=1),
        Conv("conv4", 384, 3, padding=1, bias=bias),
        Conv("conv5", 256, 3, padding=1, bias=bias),
        MaxPool("pool5"),
        *_fully_connected(std=0.005, bias=bias, inverted=True),
    )


_ONE_WEIRD_TRICK = (
    Conv("conv1", 64, 11, stride=4, padding=2, std=None),
    MaxPool("pool1", ceil=False),
    Conv("conv2", 192, 5, padding=2, std=None),
    MaxPool("pool2", ceil=False),
    Conv("conv3", 384, 3, padding=1, std=None),
    Conv("conv4", 256, 3, padding=1, std=None),
    Conv("conv5", 256, 3, padding=1, std=None),
    MaxPool("pool5", ceil=False),
    Dropout("drop5", inverted=True),
    Dense("fc6", 4096, std=None),
    Dropout("drop6", inverted=True),
    Dense("fc7", 4096, std=None),
    Dense("fc8", None, None, whole=True, std=None),
)


def _cuda_convnet_18pct(norms: bool, decay: float, last_decay: float) -> tuple[Layer, ...]:
    """The CIFAR-10 net of three convolutions, with or without its norms."""

    def norm(number: int) -> tuple[Layer, ...]:
        return (MapLRN(f"norm{number}", size=3, k=1.0, alpha=5e-5 / 9),) if norms else ()

    return (
        Conv("conv1", 32, 5, padding=2, activation=None, std=1e-4, weight_decay=decay),
        MaxPool("pool1"),
        Activation("relu1"),
        *norm(1),
        Conv("conv2", 32, 5, padding=2, weight_decay=decay),
        AvgPool("pool2"),
        *norm(2),
        Conv("conv3", 64, 5, padding=2, weight_decay=decay),
        AvgPool("pool3"),
        Dense("fc10", None, None, whole=True, weight_decay=last_decay),
    )


_CUDA_CONVNET_13PCT = (
    Conv("conv1", 64, 5, padding=2, std=1e-4, weight_decay=0.0),
    MaxPool("pool1"),
    Conv("conv2", 64, 5, padding=2, weight_decay=0.0),
    MaxPool("pool2"),
    Local("local3", 32, 3, padding=1, std=0.04, weight_decay=0.004),
    Local("local4", 32, 3, padding=1, std=0.04, weight_decay=0.004),
    Dense("fc10", None, None, whole=True, weight_decay=0.004),
)

_CUDA_CONVNET_11PCT = (
    Conv("conv1", 64, 5, padding=2, std=1e-4, weight_decay=0.0),
    MaxPool("pool1"),
    LRN("norm1", size=9, k=1.0, alpha=0.001 / 9),
    Conv("conv2", 64, 5, padding=2, weight_decay=0.0),
    LRN("norm2", size=9, k=1.0, alpha=0.001 / 9),
    MaxPool("pool2"),
    Local("local3", 64, 3, padding=1, std=0.04, weight_decay=0.004),
    Local("local4", 32, 3, padding=1, std=0.04, weight_decay=0.004),
    Dense("fc10", None, None, whole=True, weight_decay=0.01),
)

_HEAD = _fully_connected(std=0.01, bias=1.0, inverted=False)

NETS: dict[str, Net] = {
    "alexnet": Net((*_ALEXNET, *_HEAD), crop=224, towers=2),
    "alexnet_original": Net((*_ALEXNET_ORIGINAL, *_HEAD), crop=224, towers=2),
    "alexnet_half": Net((*_ALEXNET_HALF, *_HEAD), crop=224),
    "alexnet_conv6": Net((*_ALEXNET, *_CONV6, *_HEAD), crop=224, towers=2),
    "caffe_alexnet": Net(_caffe(norms_first=True, bias=0.1), crop=227, towers=2),
    "caffenet": Net(_caffe(norms_first=False, bias=1.0), crop=227, towers=2),
    "one_weird_trick": Net(_ONE_WEIRD_TRICK, crop=224),
    "cuda_convnet_18pct": Net(_cuda_convnet_18pct(True, 0.004, 1.0), crop=32),
    "cuda_convnet_13pct": Net(_CUDA_CONVNET_13PCT, crop=24),
    "cuda_convnet_11pct": Net(_CUDA_CONVNET_11PCT, crop=24),
    "four_layer": Net(_cuda_convnet_18pct(False, 0.0, 0.0), crop=32),
}
