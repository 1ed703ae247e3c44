"""Compares nets on CIFAR-10's test images by the images that they get wrong.

PYTHONPATH=. python results/cifar10/agreement.py PREDICTIONS [PREDICTIONS …]

PREDICTIONS are JSON files of the repository modestyachts/CIFAR-10.1, in its folder
model_predictions/original_predictions: `cudaconvnet_predictions.json` holds those
of a net of cuda-convnet's.
Ours are the records in results/. The store is data/cifar10.
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

OURS = (
    "cifar10/11pct_seed0/predictions_10_views.npz",
    "cifar10/11pct_seed1/predictions_10_views.npz",
    "cifar10/11pct_no_lrn_seed0/predictions_10_views.npz",
    "cifar10/11pct_no_lrn_seed1/predictions_10_views.npz",
    "cifar10/13pct_seed0/predictions_10_views.npz",
    "cifar10/13pct_seed1/predictions_10_views.npz",
    "cifar10/18pct_seed0/predictions_1_views.npz",
    "cifar10/18pct_seed1/predictions_1_views.npz",
    "baseline/cifar10_kmeans_4000/predictions.npz",
    "baseline/cifar10_kmeans_1600/predictions.npz",
    "baseline/cifar10_hog/predictions.npz",
)


def likeliest(path: Path) -> np.ndarray:
    """Returns the likeliest class of each test image: int [10000]."""
    if path.suffix == ".json":
        return np.array(json.loads(path.read_text()))
    with np.load(path) as arrays:
        return arrays["top5"][:, 0]


def kappa(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float, float]:
    """Returns the share of images that both get right or both wrong, that by chance, and kappa.

    κ = (p − c) ÷ (1 − c): p is the share of such images, and c the share that two nets with the
    same errors would have if they made them on images chosen at random. The last value is the
    largest κ that two nets with these error rates can have: one errs only where the other does.
    """
    same = float((ours == theirs).mean())
    a, b = ours.mean(), theirs.mean()
    chance = float(a * b + (1 - a) * (1 - b))
    largest = (1 - abs(a - b) - chance) / (1 - chance)
    return same, chance, (same - chance) / (1 - chance), float(largest)


results = Path(__file__).resolve().parents[1]
labels = np.load("data/cifar10/test/labels.npy")
files = [results / name for name in OURS if (results / name).exists()]
wrong = {str(x.parent.relative_to(results)): likeliest(x) != labels for x in files}
published = {Path(x).stem.removesuffix("_predictions"): Path(x) for x in sys.argv[1:]}
wrong |= {name: likeliest(path) != labels for name, path in published.items()}
reference = wrong["cudaconvnet"]
print(
    "| net | error | both wrong | same outcome | by chance | kappa with cudaconvnet | "
    "kappa ÷ its largest value |"
)
print("|---|--:|--:|--:|--:|--:|--:|")
for name, errors in wrong.items():
    same, chance, agreement, largest = kappa(errors, reference)
    both = float((errors & reference).mean())
    row = f"| {name} | {100 * errors.mean():.2f} % | {100 * both:.2f} % | {100 * same:.2f} % "
    print(f"{row}| {100 * chance:.2f} % | {agreement:.3f} | {agreement / largest:.2f} |")

same, chance, agreement, _ = kappa(wrong["cifar10/11pct_seed0"], wrong["cifar10/11pct_seed1"])
print(
    f"\nOur two seeds of the 11 % net with each other: {100 * same:.2f} %, by chance "
    f"{100 * chance:.2f} %, kappa {agreement:.3f}.\n"
)
print("| views | seed | wrong with LRN only | wrong without it only | p, exact McNemar test |")
print("|--:|--:|--:|--:|--:|")
for views in (1, 10):
    for seed in range(2):
        file = f"seed{seed}/predictions_{views}_views.npz"
        on, off = (
            likeliest(results / f"cifar10/{name}_{file}") != labels
            for name in ("11pct", "11pct_no_lrn")
        )
        only_on, only_off = int((on & ~off).sum()), int((off & ~on).sum())
        p = binomtest(only_on, only_on + only_off).pvalue
        print(f"| {views} | {seed} | {only_on} | {only_off} | {p:.1g} |")
