"""The recognition of weights that were drawn at random and not trained, without running the net."""

import textwrap

import numpy as np

from alexnet_jax.weights.layouts import Params

DEVIATIONS = 6  # standard deviations of chance; a random kernel exceeds them once in 10^8 tries
WIDTH = 80  # characters of a line of the warning
UNITS = 256  # of a layer and tower are looked at; more only cost time


def random_layers(params: Params) -> list[str]:
    """Returns the layers whose kernels look drawn at random, in the order of `params`.

    In a random kernel all numbers are independent and of one distribution, whichever it is. Then
    their mean is 0, neighbouring places of a window are uncorrelated, and the means and energies of
    units differ only by chance. Training changes all of these, most of all in the first layer.

    Args:
      params: {layer: {"kernel": [towers, …, in, units], "bias": …}}.
    """
    kernels = {name: layer["kernel"] for name, layer in params.items() if "kernel" in layer}
    return [name for name, kernel in kernels.items() if _looks_random(np.asarray(kernel))]


def untrained_warning(params: Params) -> str:
    """Returns a warning in lines of 80 columns if the first layer looks drawn at random, or "".

    A later layer alone says little: a narrow dense layer can learn without moving far.
    """
    random = random_layers(params)
    if next(iter(params)) not in random:  # the first layer is the first key
        return ""
    return textwrap.fill(
        f"warning: the kernels of {', '.join(random)} look drawn at random, not trained; if this "
        "net should be trained, check where its weights come from",
        WIDTH,
        subsequent_indent="  ",
    )


def _looks_random(kernel: np.ndarray) -> bool:
    kernel = kernel[..., :UNITS].astype(np.float32)
    if kernel.std() == 0:  # a constant kernel, by whose deviation the measures below would divide
        return True
    return max(_neighbours(kernel), _mean(kernel), _between(kernel, -1), _between(kernel, -2)) < (
        DEVIATIONS
    )


def _mean(kernel: np.ndarray) -> float:
    """Returns the distance of the mean from 0, in standard deviations of chance."""
    return abs(kernel.mean(dtype=np.float64)) / kernel.std(dtype=np.float64) * kernel.size**0.5


def _neighbours(kernel: np.ndarray) -> float:
    """Returns the correlation of neighbouring places, in standard deviations of chance.

    Convolutions only: [towers, rows, columns, in, units].
    """
    if kernel.ndim < 5 or min(kernel.shape[1:3]) < 2:
        return 0.0
    pairs = ((kernel[:, 1:], kernel[:, :-1]), (kernel[:, :, 1:], kernel[:, :, :-1]))
    return max(abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) * a.size**0.5 for a, b in pairs)


def _between(kernel: np.ndarray, axis: int) -> float:
    """Returns how much more the units (axis −1) or inputs (−2) differ than by chance.

    Compares the variance of their means and of their energies with that of independent numbers, in
    standard deviations of chance.
    """
    table = np.moveaxis(kernel, (0, axis), (0, 1))
    # A row for each unit or input of each tower: the towers are independent draws.
    table = table.reshape(table.shape[0] * table.shape[1], -1)
    groups, size = table.shape
    energy = table * table
    ratios = (
        x.mean(1, dtype=np.float64).var() * size / x.var(dtype=np.float64) for x in (table, energy)
    )
    # A sample variance of n groups has a relative standard deviation of √(2 ÷ n).
    return max((ratio - 1) / (2 / groups) ** 0.5 for ratio in ratios)
