"""Tables of the first layers' kernels by tower, with tests of their differences (Figure 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from checkout import RESULTS
from scipy import stats

from alexnet_jax.figures.kernels import COLOUR, colour_fraction, orientation_selectivity

Rows = list[Sequence[str]]
# The nets whose first layers are compared, by the claim of their records.
KERNELS = {
    "tiny_imagenet": "two towers, full width",
    "ablations": "two towers, half the width",
    "towers": "one tower, halved, half the width",
}


@dataclass(frozen=True)
class Towers:
    """The first layers of a net's two towers: that with more colour kernels, then the other.

    Attributes:
      divided: there is one tower, whose kernels are divided in the order of their numbers.
      colour: the colour fraction of each kernel, for either tower: float64 [2, maps].
      orientation: the orientation selectivity of each kernel: float64 [2, maps].
    """

    divided: bool
    colour: np.ndarray
    orientation: np.ndarray

    @property
    def counts(self) -> list[int]:
        """Returns the number of colour kernels in either tower."""
        return [int((x > COLOUR).sum()) for x in self.colour]

    @property
    def p_colour(self) -> float:
        """Returns the two-sided p of Fisher's exact test on the counts."""
        size = self.colour.shape[1]
        return float(stats.fisher_exact([[n, size - n] for n in self.counts]).pvalue)


def read_towers(path: Path) -> Towers:
    """Reads kernels.npz of a record: conv1, [towers, size, size, 3, maps of a tower]."""
    with np.load(path) as arrays:
        kernels = arrays["conv1"].astype(np.float64)
    divided = len(kernels) == 1
    towers = np.split(kernels[0], 2, axis=-1) if divided else list(kernels)
    # A stable sort: with as many in both, the first tower comes first.
    towers.sort(key=lambda tower: -(colour_fraction(tower) > COLOUR).sum())
    measured = [
        np.stack([f(x) for x in towers]) for f in (colour_fraction, orientation_selectivity)
    ]
    return Towers(divided, *measured)


def first_layers(claim: str) -> dict[str, Towers]:
    """Returns the first layers of a claim's records that keep them, by the record's folder."""
    found = sorted((RESULTS / claim).glob("*/kernels.npz"))
    return {f"{claim}/{path.parent.name}": read_towers(path) for path in found}


def colour() -> Rows:
    """Returns the share of first-layer kernels that are mostly colour, by tower, and its test."""
    rows: Rows = [("net", "kernels", "tower with more colour", "the other", "p")]
    for claim in KERNELS:
        for name, towers in first_layers(claim).items():
            size = towers.colour.shape[1]
            kernels = f"{2 * size}, halved" if towers.divided else f"2 × {size}"
            shares = [f"{n} ({100 * n / size:.0f} %)" for n in towers.counts]
            rows.append((name, kernels, *shares, f"{towers.p_colour:.2g}"))
    return rows


def colour_combined() -> Rows:
    """Returns the tests of the table `colour`, combined over the nets of each kind."""
    rows: Rows = [("nets", "number", "difference in colour kernels", "combined p")]
    for claim, kind in KERNELS.items():
        nets = first_layers(claim).values()
        combined = stats.combine_pvalues([x.p_colour for x in nets]).pvalue
        apart = ", ".join(str(a - b) for a, b in (x.counts for x in nets))
        rows.append((kind, str(len(nets)), apart, f"{combined:.1g}"))
    return rows


def orientation() -> Rows:
    """Returns the orientation selectivity of the large nets' towers and of the control's halves."""
    header = ("net", "tower with more colour", "the other", "p, Mann-Whitney test")
    rows: Rows = [(*header, "correlation with colour, by kernel")]
    nets = first_layers("tiny_imagenet") | first_layers("towers")
    for name, towers in nets.items():
        name += ", halved" if towers.divided else ""
        means = [f"{x:.2f}" for x in towers.orientation.mean(axis=1)]
        p = stats.mannwhitneyu(*towers.orientation).pvalue
        correlation = stats.pearsonr(towers.colour.ravel(), towers.orientation.ravel()).statistic
        cells = (f"{p:.1g}", f"{correlation:.2f}".replace("-", "−"))
        rows.append((name, *means, *cells))
    return rows
