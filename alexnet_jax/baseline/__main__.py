"""Classifies as in 2011, on the data of a config: fixed features and a linear SVM.

Example:   python -m alexnet_jax.baseline --config=configs/base.py --method=hog
           python -m alexnet_jax.baseline --config=configs/cifar10.py
               --method=kmeans --centres=1600
               --output=results/baseline/cifar10_kmeans_1600

--method=hog: histograms of oriented gradients (Dalal and Triggs, CVPR 2005).
--method=kmeans: small patches, coded by their distances to the centres that
k-means finds among such patches; the codes are summed over the cells of a grid
(Coates, Lee and Ng, AISTATS 2011; on CIFAR-10 they report an accuracy of 77 %
with 1,600 centres and 79.6 % with 4,000).
--method=fisher: Fisher vectors of dense SIFT and colour descriptors, as ILSVRC
2011 was won.

The features are learned from the training split, without its labels. The SVM's
cost is the one with the lowest top-1 error on the validation split. With it the
SVM is fitted to both splits, and the test split is classified once. Only `data`
and `seed` of the config are used.

--output=DIR leaves a record: config.json (all settings and package versions),
result.json (errors, cost, validation errors, seconds, command, commit, machine)
and predictions.npz (top1 [N] and top5 [N, 5]: the classes with the highest
scores for each test image).
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from alexnet_jax.cli import command
from alexnet_jax.errors import UserError
from alexnet_jax.runs import rules

if TYPE_CHECKING:
    from alexnet_jax.baseline.experiment import Settings

METHODS = ("hog", "kmeans", "fisher")
OWN = {  # flag: the one method that it is for, default, lowest value, help
    "gaussians": ("fisher", 32, 1, "Gaussians in each mixture of descriptors."),
    "centres": ("kmeans", 1600, 2, "Centres that k-means finds."),
    "patch": ("kmeans", 6, 2, "Side of a patch, in pixels."),
    "patches": ("kmeans", 400_000, 2, "Random patches that k-means is given."),
    "pool": ("kmeans", 2, 1, "Cells along each side of the grid that the codes are summed over."),
    "stride": ("kmeans", 1, 1, "Pixels from one coded patch to the next."),
}


def define_flags(values: flags.FlagValues) -> None:
    """Declares the flags other than --config."""
    own = {"flag_values": values}
    flags.DEFINE_enum("method", "kmeans", METHODS, ", ".join(METHODS) + ".", **own)
    flags.DEFINE_string("output", "", "Folder for the record; empty = none.", **own)
    images = "Random images of the training split that are used; 0 = all."
    flags.DEFINE_integer("train_images", 0, images, lower_bound=0, **own)
    for name, (method, default, lowest, text) in OWN.items():
        text = f"For --method={method}: {text[0].lower()}{text[1:]}"
        flags.DEFINE_integer(name, default, text, lower_bound=lowest, **own)


def check(values: flags.FlagValues) -> "Settings":
    """Returns the checked flags.

    Raises:
      UserError: wrong values, flags that do not fit, missing data, too little memory.
    """
    rules.check(values.config)
    for name, (method, *_) in OWN.items():
        if values[name].present and values.method != method:
            raise UserError(f"--{name} is for --method={method}, not {values.method}; leave it out")
    from alexnet_jax.baseline import checks
    from alexnet_jax.data import check_available, summary

    data, settings = values.config.data, settings_of(values)
    check_available(data)
    found = summary(data)
    checks.check_splits(data, found)
    checks.check_method(settings, data, found)
    checks.check_memory(settings, found)
    if values.output:
        checks.check_output(Path(values.output))
    return settings


def settings_of(values: flags.FlagValues) -> "Settings":
    """Returns the values of the flags other than --config and --output."""
    from alexnet_jax.baseline.experiment import Settings
    from alexnet_jax.baseline.kmeans import Form

    form = Form(values.centres, values.patch, values.stride, values.pool)
    own = values.gaussians, values.patches, form
    return Settings(values.method, values.train_images, *own)


def main(values: flags.FlagValues) -> int:
    """Learns, chooses, tests once and prints; returns the exit code."""
    settings = check(values)
    from alexnet_jax.baseline import experiment, record

    # Before the run, during which the checkout's files may change.
    origin, start = record.origin(), time.monotonic()
    result, top5 = experiment.run(values.config, settings)
    result |= {"seconds": round(time.monotonic() - start, 1), **origin}
    print(f"test top-1 error {result['top1_error']:.2%}, top-5 error {result['top5_error']:.2%}")
    if values.output:
        record.write(Path(values.output), values.config, settings, result, top5)
        print(f"record: {values.output}")
    return 0


if __name__ == "__main__":
    command.run(main, define_flags, __doc__, with_config=True)
