"""Layers and nets as data: plain frozen dataclasses that hold numbers and compute nothing.

`zoo` writes every published net with them, `shapes` works out the sizes, `variants` applies a
config's changes, `placement` lays a net over devices and `model` runs it.
"""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Weighted:
    """A layer with weights and biases, followed by its activation.

    Attributes:
      name: unique in the net; the key of the layer's parameters and of its output.
      features: maps or units over all towers; None for the classifier, which has one per class.
      activation: a key of `ops.ACTIVATIONS`, or None for a linear layer.
      std: standard deviation of the initial weights, which are normal with mean 0; None for
        PyTorch's default variance, 1 ÷ (3 fan-in).
      bias: initial value of every bias; None for a convolution without biases, before BatchNorm.
      rate: factor on the learning rates of weights and biases; 0 freezes the layer.
      weight_decay: coefficient for the weights; None takes optim.weight_decay. Biases never decay.
    """

    name: str
    features: int | None
    _: KW_ONLY
    activation: str | None = "relu"
    std: float | None = 0.01
    bias: float | None = 0.0
    rate: float = 1.0
    weight_decay: float | None = None

    weights: ClassVar[str] = "kernel"  # the name of the parameter beside the bias
    # The features are divided over the towers. Only the classifier is computed as one piece.
    divided: ClassVar[bool] = True


@dataclass(frozen=True)
class Conv(Weighted):
    """A convolution with one bias per map.

    Attributes:
      size: side of the square kernel in pixels.
      stride: in pixels.
      padding: zeros on every side, in pixels.
      ceil: True rounds the number of windows up, so that the last one hangs over the far edge and
        reads zeros, as in cuda-convnet (released code, `layer.py`).
    """

    size: int
    stride: int = 1
    padding: int = 0
    ceil: bool = False


@dataclass(frozen=True)
class Local(Weighted):
    """A locally connected layer: a convolution whose kernel and bias differ at every position.

    Attributes:
      size: side of the square kernel in pixels.
      padding: zeros on every side, in pixels.
    """

    size: int
    padding: int = 0

    # The only values in the published nets. `shapes` reads these attributes of every window.
    stride: ClassVar[int] = 1
    ceil: ClassVar[bool] = False


@dataclass(frozen=True)
class Dense(Weighted):
    """A fully connected layer.

    Attributes:
      divided: False for the classifier: each of its units reads all towers, and every device that
        needs the logits computes all of them.
    """

    divided: bool = True


@dataclass(frozen=True)
class LRN:
    """Local response normalisation over `size` neighbouring maps (paper §3.3).

    y = x ÷ (k + alpha Σ x²)^beta, with the sum over the window. alpha is not divided by the size.

    Attributes:
      across_towers: False as in the released code: each window stays inside one tower. True as in
        Caffe: windows cross the border between towers.
    """

    name: str
    # The paper's constants (§3.3), which its authors chose on a validation set.
    size: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75
    across_towers: bool = False


@dataclass(frozen=True)
class MapLRN:
    """Response normalisation over size×size positions of one map (cuda-convnet's `rnorm`).

    y = x ÷ (k + alpha Σ x²)^beta, as in `LRN`.
    """

    name: str
    size: int
    k: float
    alpha: float
    beta: float = 0.75


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation of every map (Ioffe and Szegedy, arXiv 1502.03167, algorithm 1).

    y = scale · (x − mean) ÷ √(variance + epsilon) + bias. Scale and bias are learned. In training,
    mean and variance are those of the map in the whole batch, over all devices. In tests they are
    running averages.

    Attributes:
      decay: weight of the running averages at each step; the batch's moments weigh 1 − decay.
    """

    name: str
    epsilon: float = 1e-5
    decay: float = 0.9

    # The optimizer reads these four of every layer with parameters, as of `Weighted`.
    weights: ClassVar[str] = "scale"
    bias: ClassVar[float] = 0.0
    rate: ClassVar[float] = 1.0
    weight_decay: ClassVar[float] = 0.0


@dataclass(frozen=True)
class Pool:
    """Pooling over square windows.

    Attributes:
      size, stride: in pixels.
      ceil: True rounds the number of windows up. The part of the last window that hangs over the
        far edge does not count.
    """

    name: str
    # Windows overlap, because the stride is smaller than the size (paper §3.4).
    size: int = 3
    stride: int = 2
    ceil: bool = True

    padding: ClassVar[int] = 0


@dataclass(frozen=True)
class MaxPool(Pool):
    """The maximum of each window."""


@dataclass(frozen=True)
class AvgPool(Pool):
    """The mean over the part of each window that lies inside the map."""


@dataclass(frozen=True)
class Activation:
    """A nonlinearity as a layer of its own: after a pooling layer (released code) or BatchNorm."""

    name: str
    activation: str | None = "relu"


@dataclass(frozen=True)
class Dropout:
    """Dropout of units with probability `rate` (paper §4.2).

    Attributes:
      inverted: False as in the paper: training only masks, tests multiply by 1 − rate. True as in
        Caffe and PyTorch: training masks and divides by 1 − rate, tests change nothing.
    """

    name: str
    rate: float = 0.5
    inverted: bool = False


@dataclass(frozen=True)
class StraightThrough:
    """A norm that passes gradients on unchanged, as in a deconvnet (Zeiler and Fergus, 2013)."""

    norm: LRN | MapLRN

    @property
    def name(self) -> str:
        """Returns the norm's name."""
        return self.norm.name


@dataclass(frozen=True)
class Exchange:
    """A marker: the next layer with weights reads the maps of all towers (paper §3.2)."""


Window = Conv | Local | Pool
Norm = LRN | MapLRN
Learned = Weighted | BatchNorm  # layers with parameters
STATISTICS = ("mean", "variance")  # running averages of BatchNorm: parameters without a gradient
Layer = Learned | Norm | StraightThrough | Pool | Activation | Dropout | Exchange


@dataclass(frozen=True)
class Net:
    """A net.

    Attributes:
      layers: from the image to the classifier.
      crop: side of the input in pixels.
      towers: number of equal columns that the features of every divided layer are split into.
      about: a description in one line.
      source: the paper's section or the file that the numbers are from.
    """

    layers: tuple[Layer, ...]
    crop: int
    towers: int = 1
    about: str = ""
    source: str = ""
