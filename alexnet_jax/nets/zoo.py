"""Every published net: its layers, a description and the source of its numbers.

The comment behind a layer gives the size of its output at the published crop, height × width ×
maps over all towers. docs/paper_and_code.md lists where the paper and the released code disagree.
"""

from typing import Any

from alexnet_jax.nets.spec import (
    LRN,
    Activation,
    AvgPool,
    BatchNorm,
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

STD_CONV345 = 0.03  # the released code's initial std of conv3 to conv5 (`layers-145.cfg`)
PAPER = "Krizhevsky, Sutskever, Hinton, NIPS 2012"
RELEASED = "code released in 2025"


def _fully_connected(
    std: float = 0.01, bias: float = 1.0, inverted: bool = False
) -> tuple[Layer, ...]:
    """Returns fc6, fc7 and fc8, with dropout after the first two and an exchange before each.

    Args:
      std: of the initial weights of fc6 and fc7; fc8 has 0.01 in all these nets.
      bias: initial bias of fc6 and fc7. The paper's 1 gives the ReLUs positive inputs at the start
        (§5).
      inverted: as in `spec.Dropout`.
    """
    return (
        Exchange(),
        Dense("fc6", 4096, std=std, bias=bias),
        Dropout("drop6", inverted=inverted),
        Exchange(),
        Dense("fc7", 4096, std=std, bias=bias),
        Dropout("drop7", inverted=inverted),
        Exchange(),
        # One piece that reads both towers: in the released code fc8 lies on one GPU.
        Dense("fc8", None, activation=None, divided=False),
    )


def _alexnet(std: float) -> tuple[Layer, ...]:
    """Returns the paper's convolutions with this initial std in conv3 to conv5."""
    return (
        # (224 − 11) ÷ 4 is no integer: the released code rounds up, and the last window hangs over.
        Conv("conv1", 96, 11, stride=4, ceil=True),  # 224 → 55×55×96
        LRN("norm1"),
        MaxPool("pool1"),  # 27×27×96
        Conv("conv2", 256, 5, padding=2, bias=1.0),  # 27×27×256
        LRN("norm2"),
        MaxPool("pool2"),  # 13×13×256
        Exchange(),
        # Its biases start at 0: the paper lists only conv2, conv4, conv5, fc6 and fc7 for 1 (§5).
        Conv("conv3", 384, 3, padding=1, std=std),  # 13×13×384
        Conv("conv4", 384, 3, padding=1, std=std, bias=1.0),  # 13×13×384
        Conv("conv5", 256, 3, padding=1, std=std, bias=1.0),  # 13×13×256
        MaxPool("pool5"),  # 6×6×256
    )


_ALEXNET_ORIGINAL = (
    Conv("conv1", 96, 11, stride=4, ceil=True, activation=None),  # 224 → 55×55×96
    LRN("norm1", alpha=1e-4 / 5),  # the code divides alpha by the size of the window
    MaxPool("pool1"),  # 27×27×96
    # In the file, the ReLU is an option of the pooling layer. So it comes after the norm, whose
    # sum also has the squares of negative outputs: another function than the paper's.
    Activation("relu1"),
    Conv("conv2", 256, 5, padding=2, bias=1.0),  # 27×27×256
    LRN("norm2", alpha=1e-4 / 5),
    MapLRN("mapnorm2", size=5, k=1.0, alpha=0.001 / 25),  # `rnorm2`: scale 0.001 ÷ 5² positions
    MaxPool("pool2"),  # 13×13×256
    Exchange(),
    Conv("conv3", 384, 3, padding=1, std=STD_CONV345),  # 13×13×384
    Conv("conv4", 384, 3, padding=1, std=STD_CONV345, bias=1.0),  # 13×13×384
    Conv("conv5", 256, 3, padding=1, std=STD_CONV345, bias=1.0, activation=None),  # 13×13×256
    MaxPool("pool5"),  # 6×6×256
    Activation("relu5"),  # after the pooling too, but a maximum and a ReLU may be swapped
)

_ALEXNET_HALF = (
    Conv("conv1", 48, 11, stride=4, ceil=True),  # 224 → 55×55×48
    LRN("norm1"),
    MaxPool("pool1"),  # 27×27×48
    Conv("conv2", 128, 5, padding=2, bias=1.0),  # 27×27×128
    LRN("norm2"),
    MaxPool("pool2"),  # 13×13×128
    Conv("conv3", 192, 3, padding=1),  # 13×13×192
    Conv("conv4", 192, 3, padding=1, bias=1.0),  # 13×13×192
    # The paper keeps the last convolution at full size, and so about the number of parameters.
    Conv("conv5", 256, 3, padding=1, bias=1.0),  # 13×13×256
    MaxPool("pool5"),  # 6×6×256
)


def _normalised(number: int, features: int, size: int, **window: Any) -> tuple[Layer, ...]:
    """Returns a convolution, its batch normalisation and its rectifier."""
    return (
        # No bias: the normalisation would subtract it again, and has a bias of its own.
        Conv(f"conv{number}", features, size, activation=None, bias=None, **window),
        BatchNorm(f"norm{number}"),
        Activation(f"relu{number}"),
    )


_ALEXNET_BATCH_NORM = (
    *_normalised(1, 96, 11, stride=4, ceil=True),  # 224 → 55×55×96
    MaxPool("pool1"),  # 27×27×96
    *_normalised(2, 256, 5, padding=2),  # 27×27×256
    MaxPool("pool2"),  # 13×13×256
    Exchange(),
    *_normalised(3, 384, 3, padding=1),  # 13×13×384
    *_normalised(4, 384, 3, padding=1),  # 13×13×384
    *_normalised(5, 256, 3, padding=1),  # 13×13×256
    MaxPool("pool5"),  # 6×6×256
)

# Over the last pooling layer (paper §6).
_CONV6 = (Exchange(), Conv("conv6", 256, 3, padding=1, bias=1.0))  # 6×6×256


def _caffe(norm_before_pool: bool, bias: float) -> tuple[Layer, ...]:
    """Returns one of Caffe's two nets.

    Args:
      norm_before_pool: LRN comes before pooling, as in the paper.
      bias: initial bias of the layers whose biases the paper starts at 1.
    """

    def norm_and_pool(number: int) -> tuple[Layer, ...]:
        # 1 is Caffe's default for k. Like the released code, Caffe divides alpha by the size.
        norm = LRN(f"norm{number}", k=1.0, alpha=1e-4 / 5, across_towers=True)
        pool = MaxPool(f"pool{number}")
        return (norm, pool) if norm_before_pool else (pool, norm)

    return (
        # Caffe's convolutions round down. In its crops of 227 pixels 55 windows fit exactly.
        Conv("conv1", 96, 11, stride=4),  # 227 → 55×55×96
        *norm_and_pool(1),  # 27×27×96
        Conv("conv2", 256, 5, padding=2, bias=bias),  # 27×27×256
        *norm_and_pool(2),  # 13×13×256
        Exchange(),
        Conv("conv3", 384, 3, padding=1),  # 13×13×384
        Conv("conv4", 384, 3, padding=1, bias=bias),  # 13×13×384
        Conv("conv5", 256, 3, padding=1, bias=bias),  # 13×13×256
        MaxPool("pool5"),  # 6×6×256
        # Both prototxt files have 0.005 in fc6 and fc7, and 0.01 in fc8.
        *_fully_connected(std=0.005, bias=bias, inverted=True),
    )


_ONE_WEIRD_TRICK = (
    Conv("conv1", 64, 11, stride=4, padding=2, std=None),  # 224 → 55×55×64
    MaxPool("pool1", ceil=False),  # 27×27×64; PyTorch rounds the number of windows down
    Conv("conv2", 192, 5, padding=2, std=None),  # 27×27×192
    MaxPool("pool2", ceil=False),  # 13×13×192
    Conv("conv3", 384, 3, padding=1, std=None),  # 13×13×384
    # arXiv 1404.5997 prints 384 maps; torchvision and Krizhevsky's own file have 256.
    Conv("conv4", 256, 3, padding=1, std=None),  # 13×13×256
    Conv("conv5", 256, 3, padding=1, std=None),  # 13×13×256
    MaxPool("pool5", ceil=False),  # 6×6×256
    # torchvision drops units before the two hidden dense layers, the paper after them.
    Dropout("drop5", inverted=True),
    Dense("fc6", 4096, std=None),
    Dropout("drop6", inverted=True),
    Dense("fc7", 4096, std=None),
    Dense("fc8", None, activation=None, divided=False, std=None),
)


def _cuda_convnet_18pct(norms: bool, decay: float, last_decay: float) -> tuple[Layer, ...]:
    """Returns the CIFAR-10 net of three convolutions.

    Args:
      norms: with its two response normalisations.
      decay: weight decay of the convolutions.
      last_decay: weight decay of the classifier.
    """

    def norm(number: int) -> tuple[Layer, ...]:
        # `rnorm1`, `rnorm2`: scale 0.00005, which the code divides by the window's 3² positions.
        return (MapLRN(f"norm{number}", size=3, k=1.0, alpha=5e-5 / 9),) if norms else ()

    return (
        Conv("conv1", 32, 5, padding=2, activation=None, std=1e-4, weight_decay=decay),  # 32×32×32
        MaxPool("pool1"),  # 16×16×32
        Activation("relu1"),
        *norm(1),
        # The ReLU comes before the pooling: unlike a maximum, an average does not commute with it.
        Conv("conv2", 32, 5, padding=2, weight_decay=decay),  # 16×16×32
        AvgPool("pool2"),  # 8×8×32
        *norm(2),
        Conv("conv3", 64, 5, padding=2, weight_decay=decay),  # 8×8×64
        AvgPool("pool3"),  # 4×4×64
        # A weight decay of 1 is no typing error: Caffe's cifar10_full has 250 × 0.004 = 1, too.
        Dense("fc10", None, activation=None, divided=False, weight_decay=last_decay),
    )


_CUDA_CONVNET_13PCT = (
    Conv("conv1", 64, 5, padding=2, std=1e-4, weight_decay=0.0),  # 24×24×64
    MaxPool("pool1"),  # 12×12×64
    Conv("conv2", 64, 5, padding=2, weight_decay=0.0),  # 12×12×64
    MaxPool("pool2"),  # 6×6×64
    Local("local3", 32, 3, padding=1, std=0.04, weight_decay=0.004),  # 6×6×32
    Local("local4", 32, 3, padding=1, std=0.04, weight_decay=0.004),  # 6×6×32
    Dense("fc10", None, activation=None, divided=False, weight_decay=0.004),
)

_CUDA_CONVNET_11PCT = (
    Conv("conv1", 64, 5, padding=2, std=1e-4, weight_decay=0.0),  # 24×24×64
    MaxPool("pool1"),  # 12×12×64
    LRN("norm1", size=9, k=1.0, alpha=0.001 / 9),  # `rnorm1`: scale 0.001 ÷ 9 maps
    Conv("conv2", 64, 5, padding=2, weight_decay=0.0),  # 12×12×64
    LRN("norm2", size=9, k=1.0, alpha=0.001 / 9),
    MaxPool("pool2"),  # 6×6×64
    Local("local3", 64, 3, padding=1, std=0.04, weight_decay=0.004),  # 6×6×64
    Local("local4", 32, 3, padding=1, std=0.04, weight_decay=0.004),  # 6×6×32
    Dense("fc10", None, activation=None, divided=False, weight_decay=0.01),
)

NETS: dict[str, Net] = {
    "alexnet": Net(
        (*_alexnet(std=0.01), *_fully_connected()),
        crop=224,
        towers=2,
        about="the paper as printed",
        source=f"{PAPER}, §3 and §5",
    ),
    "alexnet_released_std": Net(
        (*_alexnet(STD_CONV345), *_fully_connected()),
        crop=224,
        towers=2,
        about="the paper as printed, but with the released std of conv3–5: it soon leaves chance",
        source=f"{PAPER}, §3 and §5; {RELEASED}, layers/layers-145.cfg",
    ),
    "alexnet_original": Net(
        (*_ALEXNET_ORIGINAL, *_fully_connected()),
        crop=224,
        towers=2,
        about="the net that produced the paper's numbers: net 145 of the released code",
        source=f"{RELEASED}, layers/layers-145.cfg",
    ),
    "alexnet_half": Net(
        (*_ALEXNET_HALF, *_fully_connected()),
        crop=224,
        about="half the kernels in one column: the paper's one-GPU net",
        source=f"{PAPER}, §3.2",
    ),
    "alexnet_conv6": Net(
        (*_alexnet(std=0.01), *_CONV6, *_fully_connected()),
        crop=224,
        towers=2,
        about='a sixth convolution: the paper\'s "1 CNN*"',
        source=f"{PAPER}, §6; {RELEASED}, layers/layers-146-2012-2011.cfg",
    ),
    "alexnet_batch_norm": Net(
        (*_ALEXNET_BATCH_NORM, *_fully_connected()),
        crop=224,
        towers=2,
        about="the paper with batch normalisation in each convolution instead of LRN",
        source="our choice; Ioffe and Szegedy, arXiv 1502.03167",
    ),
    "caffe_alexnet": Net(
        _caffe(norm_before_pool=True, bias=0.1),
        crop=227,
        towers=2,
        about="Caffe's bvlc_alexnet: LRN over all maps with k = 1",
        source="BVLC/caffe, models/bvlc_alexnet",
    ),
    "caffenet": Net(
        _caffe(norm_before_pool=False, bias=1.0),
        crop=227,
        towers=2,
        about="Caffe's reference net: pooling before LRN",
        source="BVLC/caffe, models/bvlc_reference_caffenet",
    ),
    "one_weird_trick": Net(
        _ONE_WEIRD_TRICK,
        crop=224,
        about="one column without LRN, as in torchvision",
        source="pytorch/vision, alexnet.py, after Krizhevsky, arXiv 1404.5997",
    ),
    "cuda_convnet_18pct": Net(
        _cuda_convnet_18pct(True, 0.004, 1.0),
        crop=32,
        about="CIFAR-10: three convolutions",
        source="dnouri/cuda-convnet, example-layers/layers-18pct.cfg",
    ),
    "cuda_convnet_13pct": Net(
        _CUDA_CONVNET_13PCT,
        crop=24,
        about="CIFAR-10: two convolutions, two locally connected layers",
        source="dnouri/cuda-convnet, example-layers/layers-conv-local-13pct.cfg",
    ),
    "cuda_convnet_11pct": Net(
        _CUDA_CONVNET_11PCT,
        crop=24,
        about="CIFAR-10: the same with LRN",
        source="dnouri/cuda-convnet, example-layers/layers-conv-local-11pct.cfg",
    ),
    "four_layer": Net(
        _cuda_convnet_18pct(False, 0.0, 0.0),
        crop=32,
        about="18pct without norms, for the paper's Figure 1, which does not print its net",
        source="our choice",
    ),
}
