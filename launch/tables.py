"""Prints the tables of README.md and docs/ from results/, or puts them there.

python launch/tables.py            prints every table by name
python launch/tables.py --write    replaces what lies between the marks
                                   <!-- table:NAME --> and <!-- end -->
"""

from checkout import RESULTS, TOP  # first: one error line if .venv is not active

# isort: split
import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from absl import flags
from tower_tables import colour, colour_combined, orientation

from alexnet_jax.cli import command
from alexnet_jax.cli.tables import markdown_table, percent
from alexnet_jax.figures.activations import TARGET, read_activation_runs
from alexnet_jax.figures.curves import read_metrics, series
from alexnet_jax.figures.plateau import read_runs
from alexnet_jax.figures.scaling import TITLES, read_scaling
from alexnet_jax.nets.shapes import layer_shapes
from alexnet_jax.nets.variants import published
from alexnet_jax.nets.zoo import NETS

FAR = 10  # points between the errors of two seeds
BLOCK = re.compile(r"<!-- table:(\w+) -->\n.*?<!-- end -->", re.DOTALL)
KINDS = ("top1", "top5")
Rows = list[Sequence[str]]
Record = dict[str, Any]


def define_flags(values: flags.FlagValues) -> None:
    """Declares the command's flags."""
    text = "Write the tables into README.md and docs/*.md instead of printing them."
    flags.DEFINE_boolean("write", False, text, flag_values=values)


def records(claim: str) -> dict[str, Record]:
    """Returns the run.json and the folder of every run of a claim, by the run's name."""
    found = sorted((RESULTS / claim).glob("*/run.json"))
    return {
        path.parent.name: {
            **json.loads(path.read_text()),
            "folder": path.parent.relative_to(RESULTS),
        }
        for path in found
    }


def tested(runs: Sequence[Record], measure: str, views: int = 1) -> list[float]:
    """Returns a measure (top1_error, top5_error, loss) of each run that was tested in these views.

    Errors are fractions.
    """
    key = f"{views}_views"
    return [run[key][f"test/{measure}"] for run in runs if key in run]


def nets() -> Rows:
    """Returns the table of the published nets."""
    rows: Rows = [("name", "what it is", "pixels", "towers", "parameters", "multiply-adds")]
    for name in NETS:
        net = published(name, num_classes=10 if NETS[name].crop < 100 else 1000)
        shapes = list(layer_shapes(net, net.crop))
        sizes = (f"{sum(s.params for s in shapes):,}", f"{sum(s.macs for s in shapes):,}")
        rows.append((f"`{name}`", net.about, str(net.crop), str(net.towers), *sizes))
    return rows


def digits() -> Rows:
    """Returns the quickstart's errors by seed, with their mean and standard deviation."""
    rows: Rows = [("seed", "test top-1 error", "test top-5 error", "training seconds")]
    found = list(records("digits").values())
    for run in found:
        errors = [spread(tested([run], f"{kind}_error")) for kind in KINDS]
        rows.append((str(run["seed"]), *errors, f"{run['training_seconds']:.0f}"))
    if len(found) > 1:
        rows.append(("mean ± std", spread(tested(found, "top1_error")), "", ""))
    return rows


def recipes() -> Rows:
    """Returns the digits' errors of each recipe's seeds, against the mean of the base recipe's."""
    groups = {"base": list(records("digits").values()), **by_seed("recipes")}
    rows: Rows = [("config", "test top-1 error by seed", "mean", "against base", "test loss")]
    base = mean(tested(groups["base"], "top1_error"))
    for name, found in groups.items():
        errors, loss = tested(found, "top1_error"), mean(tested(found, "loss"))
        gain = f"{100 * (mean(errors) - base):+.2f}" if name != "base" else ""
        rows.append(
            (name, ", ".join(map(percent, errors)), percent(mean(errors)), gain, f"{loss:.3f}")
        )
    return rows


def plateau(claim: str) -> Rows:
    """Returns when each run with other initial weights left chance."""
    header = ("classes", "pixels", "std of conv3–5", "bias", "steps", "left chance at step")
    rows: Rows = [(*header, "loss at the end", "ln(classes)")]
    for run in read_runs(RESULTS / claim):
        left = "not yet" if run.left_at is None else f"{run.left_at:,}"
        setting = (str(run.classes), str(run.crop), f"{run.std:g}", f"{run.bias:g}")
        end = (f"{run.steps[-1]:,}", left, f"{run.smooth[-1]:.3f}", f"{run.chance:.3f}")
        rows.append((*setting, *end))
    return rows


def baseline() -> Rows:
    """Returns the errors of linear SVMs on features that are not learned from labels."""
    rows: Rows = [("run", "features", "test top-1 error", "test top-5 error", "seconds")]
    for path in sorted((RESULTS / "baseline").glob("*/result.json")):
        found = json.loads(path.read_text())
        errors = (percent(found["top1_error"]), percent(found["top5_error"]))
        size, seconds = f"{found['features']:,}", f"{found['seconds']:.0f}"
        rows.append((path.parent.name, size, *errors, seconds))
    return rows


NAMES = {
    "hog": "hand-crafted: HOG",
    "kmeans": "learned without labels: {:,} k-means features",
    "fisher": "hand-crafted: Fisher vectors of SIFT and colour",
}


def hand_crafted() -> Rows:
    """Returns the errors of fixed features and of learned nets on Tiny-ImageNet's test pictures."""
    rows: Rows = [("method", "top-1 error", "top-5 error")]
    paths = (RESULTS / "baseline").glob("tiny_imagenet_*/result.json")
    fixed = [json.loads(path.read_text()) for path in paths]
    for found in sorted(fixed, key=lambda found: -found["top5_error"]):
        features = NAMES[found["method"]].format(found["features"] // 4)
        errors = (percent(found["top1_error"]), percent(found["top5_error"]))
        rows.append((f"{features}; linear SVM", *errors))
    found = by_seed("tiny_imagenet")
    single, ensemble = found["one net"], found["ensemble"]
    for name, runs, views in (
        (f"one net, 1 view, {len(single)} seeds", single, 1),
        (f"{len(ensemble[0]['members'])} nets, 1 view", ensemble, 1),
        (f"one net, 10 views, {len(single)} seeds", single, 10),
    ):
        errors = [spread(tested(runs, f"{kind}_error", views)) for kind in KINDS]
        rows.append((f"learned: {name}", *errors))
    return rows


def spread(values: Sequence[float]) -> str:
    """Returns fractions in percent, as mean ± standard deviation.

    A single one, or several that are further apart than FAR because one failed, are listed.
    """
    hundredfold = [100 * value for value in values]
    if len(hundredfold) == 1 or max(hundredfold) - min(hundredfold) > FAR:
        return ", ".join(map(percent, values))
    return f"{mean(hundredfold):.2f} ± {stdev(hundredfold):.2f} %"


def by_seed(claim: str) -> dict[str, list[Record]]:
    """Returns the records of a claim's evaluated runs, those that differ by their seed together."""
    groups: dict[str, list[Record]] = {}
    for name, run in records(claim).items():
        if any(key.endswith("_views") for key in run):
            groups.setdefault(re.sub(r"_?seed\d+$", "", name) or "one net", []).append(run)
    return groups


def errors(claim: str, views: Sequence[int]) -> Rows:
    """Returns the test errors of a claim's runs, over their seeds."""
    titles = [f"{kind} error, {view(n)}" for n in views for kind in ("top-1", "top-5")]
    rows: Rows = [("run", "seeds", *titles)]
    for name, group in by_seed(claim).items():
        row = [name.replace("_", " "), str(len(group[0].get("members", group)))]
        for n in views:
            for kind in KINDS:
                found = tested(group, f"{kind}_error", n)
                row.append(spread(found) if found else "–")
        rows.append(row)
    return rows


def view(count: int) -> str:
    """Returns a number of views in words."""
    return "1 view" if count == 1 else f"{count} views"


# By variant: its cost in top-1 / top-5 error in the paper or, for a net that the paper leaves out,
# in the logs of the released code; and its cost in top-1 error in others' hands, on ImageNet:
# ducha-aiki/caffenet-benchmark (128 pixels) but for conv3, conv4 and fc7, Zeiler and Fergus 2013
# (arXiv 1311.2901).
ABLATED = {
    "no_lrn": ("+1.4 / +1.2", "−0.1"),
    "pool_2": ("+0.4 / +0.3", "−1.3, with other map sizes"),
    "no_dropout": ("overfits", "−0.2, with 0.1 for 0.5"),
    "no_dropout_rate_0.01": ("overfits", ""),
    "no_crop_and_flip": ("overfits", ""),
    "no_colour_noise": ("over +1 / –", ""),
    "exchange_before_fc8_only": ("+1.2 / +1.1, in the code's logs", ""),
    "one_tower": ("", "−2.2, at width ÷ 2√2"),
    "one_tower_of_half_the_width": ("+1.7 / +1.2, with conv5 and fc kept", ""),
    "without_conv3": ("about +2 / –", "+4.9, without conv4, too"),
    "without_conv4": ("about +2 / –", "+4.9, without conv3, too"),
    "without_conv5": ("about +2 / –", ""),
    "without_fc7": ("", "−0.5"),
    "tanh": ("", "+7.0"),
}


def difference(these: Sequence[float], others: Sequence[float]) -> str:
    """Returns `these` − `others` in percentage points, mean ± standard deviation over the pairs.

    If `these` are further apart than FAR, because a run failed, the differences are listed.
    """
    points = [100 * (a - b) for a, b in zip(these, others, strict=True)]
    if 100 * (max(these) - min(these)) > FAR:
        text = ", ".join(f"{x:+.1f}" for x in points)
    else:
        text = f"{mean(points):+.1f} ± {stdev(points):.1f}"
    return text.replace("-", "−")


def last_training_error(run: Record) -> float:
    """Returns the training error counted during a run's last epoch, with dropout and noise on."""
    lines = read_metrics(RESULTS / run["folder"])
    return series(lines, "train/epoch_top1_error")[1][-1]


def ablations() -> Rows:
    """Returns the errors of each ablation's seeds, against the reference's with the same seeds."""
    groups = by_seed("ablations")
    reference = groups.pop("reference")
    base = [tested(reference, f"{kind}_error") for kind in KINDS]
    header = ("variant", "top-1 error", "top-5 error", "Δ top-1", "Δ top-5", "the authors, Δ")
    rows: Rows = [(*header, "others, Δ top-1", "test − training error")]
    for name, group in {"reference": reference, **groups}.items():
        errors = [tested(group, f"{kind}_error") for kind in KINDS]
        changes = map(difference, errors, base) if group is not reference else ("", "")
        gap = difference(errors[0], [last_training_error(run) for run in group])
        known = ABLATED.get(name, ("", ""))
        rows.append((name.replace("_", " "), *map(spread, errors), *changes, *known, gap))
    return rows


def scaling() -> Rows:
    """Returns the top-1 error by width of the net and by fraction of the pictures."""
    rows: Rows = [("varied", "value", "seeds", "top-1 error")]
    for kind, points in read_scaling(RESULTS).items():
        for value, found in points.items():
            error = spread([x / 100 for x in found])
            rows.append((TITLES[kind], f"{value:g}", str(len(found)), error))
    return rows


def figure1() -> Rows:
    """Returns the epochs to 25 % training error at the best rate, and their ratio by seed."""
    rows: Rows = [("initial weights", "ReLU: rate, epochs", "tanh: rate, epochs", "tanh ÷ ReLU")]
    runs = read_activation_runs(RESULTS / "figure1")
    for start in ("published", "fan_in"):
        epochs, cells = {}, []
        for activation in ("relu", "tanh"):
            found = [run for run in runs if (run.start, run.activation) == (start, activation)]
            epochs[activation] = [run.epochs[-1] for run in found]
            counts = ", ".join(f"{x:.0f}" for x in epochs[activation])
            cells.append(f"{found[0].rate:g}: {counts}")
        ratios = [a / b for a, b in zip(epochs["tanh"], epochs["relu"], strict=True)]
        ratio = f"{mean(ratios):.1f} ± {stdev(ratios):.1f}"
        rows.append((start.replace("_", "-"), *cells, ratio))
    return rows


def figure1_rates() -> Rows:
    """Returns the epochs to 25 % training error of each activation, start and rate."""
    rows: Rows = [("activation", "initial weights", "rate", "epochs", "training error then")]
    for run in read_activation_runs(RESULTS / "figure1_rates"):
        reached = run.errors[-1] <= TARGET
        epochs = f"{run.epochs[-1]:.0f}" if reached else f"not in {run.epochs[-1]:.0f}"
        setting = (run.activation, run.start.replace("_", "-"), f"{run.rate:g}")
        rows.append((*setting, epochs, percent(run.errors[-1])))
    return rows


TABLES: dict[str, Callable[[], Rows]] = {
    "nets": nets,
    "digits": digits,
    "recipes": recipes,
    "plateau": partial(plateau, "plateau"),
    "printed": partial(plateau, "printed"),
    "baseline": baseline,
    "hand_crafted": hand_crafted,
    "tiny_imagenet": partial(errors, "tiny_imagenet", (1, 10)),
    "cifar10": partial(errors, "cifar10", (1, 10)),
    "ablations": ablations,
    "towers": partial(errors, "towers", (1, 10)),
    "one_gpu": partial(errors, "one_gpu", (1,)),
    "one_cnn_star": partial(errors, "one_cnn_star", (1,)),
    "scaling": scaling,
    "figure1_rates": figure1_rates,
    "figure1": figure1,
    "colour": colour,
    "colour_combined": colour_combined,
    "orientation": orientation,
}


def filled(text: str) -> str:
    """Returns a page with its tables made anew from the records."""

    def block(found: re.Match[str]) -> str:
        table = markdown_table(TABLES[found[1]](), left=2)
        return f"<!-- table:{found[1]} -->\n{table}\n<!-- end -->"

    return BLOCK.sub(block, text)


def pages() -> list[Path]:
    """Returns the pages that may hold tables."""
    return [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]


def main(values: flags.FlagValues) -> int:
    """Prints or writes every table; returns the exit code."""
    if values.write:
        for page in pages():
            page.write_text(filled(page.read_text()))
        return 0
    for name, rows in TABLES.items():
        print(f"{name}\n\n{markdown_table(rows(), left=2)}\n")
    return 0


if __name__ == "__main__":
    command.run(main, define_flags, __doc__)
