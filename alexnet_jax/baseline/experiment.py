"""One experiment: features, the choice of the SVM's cost, the final fit, and the test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.baseline import fisher, hog, kmeans
from alexnet_jax.baseline.classifier import fit, gram
from alexnet_jax.baseline.features import Encode, encode_all, moments, standardise
from alexnet_jax.baseline.images import limit
from alexnet_jax.baseline.selection import Trial, errors, trials
from alexnet_jax.data import Split, open_dataset
from alexnet_jax.evaluate import top_k


@dataclass(frozen=True)
class Settings:
    """The values of the command's flags other than --config and --output."""

    method: str  # hog, kmeans or fisher
    train_images: int  # random images of the training split that are used; 0 = all
    gaussians: int  # for fisher: of each mixture
    patches: int  # for kmeans: random patches that the dictionary is learned from
    form: kmeans.Form  # for kmeans

    @property
    def features(self) -> int:
        """Returns the number of features of an image."""
        if self.method == "hog":
            return hog.FEATURES
        if self.method == "fisher":
            return fisher.num_features(self.gaussians)
        return self.form.features


def run(config: ConfigDict, settings: Settings) -> tuple[dict[str, Any], np.ndarray]:
    """Runs the experiment and prints its progress.

    Args:
      config: only `data` and `seed` are used.
      settings: the command's other flags.

    Returns:
      The numbers of the result, with errors as fractions; and int [N, 5], the classes with the
      highest scores for each test image, highest first.
    """
    dataset = open_dataset(config.data)
    train, val, test = (dataset.splits[name] for name in ("train", "val", "test"))
    train = limit(train, settings.train_images or len(train), config.seed)
    print(f"images: {len(train)} training, {len(val)} validation, {len(test)} test", flush=True)
    encode = make_encoder(train, settings, config.seed)
    features = encode_all((train, val), encode, settings.features)
    # Measured on training images only: nothing is learned from those that the cost is chosen by.
    measured = moments(features[: len(train)])
    standardise(features, measured)
    labels = np.concatenate([train.labels, val.labels])
    tried, weights = learn(features, labels, len(train), len(dataset.class_names))
    del features  # before the test split's, so that only one of the two is in memory
    test_features = encode_all((test,), encode, settings.features)
    standardise(test_features, measured)
    top5 = top_k(test_features @ weights, 5)
    result = {
        "method": settings.method,
        "dataset": config.data.name,
        "classes": len(dataset.class_names),
        "image_size": config.data.image_size,
        "features": settings.features,
        "train_images": len(train),
        "val_images": len(val),
        "test_images": len(test),
    }
    return result | choice(tried) | errors(top5, np.asarray(test.labels)), top5


def make_encoder(train: Split, settings: Settings, seed: int) -> Encode:
    """Returns the method's function from images to features, learned from the training split."""
    if settings.method == "hog":
        return hog.encode
    if settings.method == "fisher":
        print(f"learning two mixtures of {settings.gaussians} Gaussians", flush=True)
        return fisher.encoder(fisher.learn(train, settings.gaussians, seed))
    form = settings.form
    print(f"learning {form.centres} centres from {settings.patches} patches", flush=True)
    return kmeans.encoder(kmeans.learn(train, form, settings.patches, seed), form)


def learn(
    features: np.ndarray, labels: np.ndarray, num_train: int, num_classes: int
) -> tuple[list[Trial], np.ndarray]:
    """Returns a trial for each cost, and the weights that the best cost gives on all images.

    Args:
      features: float32 [N, D], first those of the training images, then those for validation.
      labels: int [N].
      num_train: number of training images.
      num_classes: number of classes.
    """
    products = gram(features[:num_train])
    tried = []
    print("     cost  validation top-1 error  top-5 error", flush=True)
    for trial in trials(features, labels, num_train, products, num_classes):
        top1, top5 = trial.errors.values()
        print(f"{trial.cost:9g}  {top1:22.2%}  {top5:11.2%}", flush=True)
        tried.append(trial)
    best = best_of(tried)
    products += gram(features[num_train:])  # the Gram matrix of all rows
    return tried, fit(features, labels, products, best.cost, best.weights)


def best_of(tried: Sequence[Trial]) -> Trial:
    """Returns the trial with the lowest top-1 error; of equals the one with the lowest cost."""
    return min(tried, key=lambda trial: trial.errors["top1_error"])


def choice(tried: Sequence[Trial]) -> dict[str, Any]:
    """Returns the chosen cost, and the validation errors of every cost that was tried."""
    validation = [{"cost": trial.cost, **trial.errors} for trial in tried]
    return {"cost": best_of(tried).cost, "validation": validation}
