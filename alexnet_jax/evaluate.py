"""Exact top-1 and top-5 error over every image, in one view or ten, by one net or several."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import parallel
from alexnet_jax.data import Split
from alexnet_jax.data.pipeline import evaluation_batches
from alexnet_jax.disk.durable import complete_file
from alexnet_jax.nets.model import AlexNet, on_devices
from alexnet_jax.nets.placement import param_specs
from alexnet_jax.parallel import REPLICATED, Devices
from alexnet_jax.preprocess import VIEWS, InputStats, view
from alexnet_jax.runs.progress import with_progress
from alexnet_jax.runs.record import check_same_checkpoints
from alexnet_jax.runs.restore import load_on, restored_stats
from alexnet_jax.runs.workdir import good_step, step_folder, workdir_of

Predict = Callable[[jax.Array], np.ndarray]


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
      loss: mean of −log(probability of the label), in nats.
      top1_error, top5_error: fractions of all images whose label is not the likeliest class, or not
        among the five likeliest.
      examples: number of images.
      views: 1 or 10.
      probabilities: float32 [examples, classes].
      labels: int32 [examples].
      likeliest: int [examples, 5 or the number of classes], the likeliest class first.
    """

    loss: float
    top1_error: float
    top5_error: float
    examples: int
    views: int
    probabilities: np.ndarray
    labels: np.ndarray
    likeliest: np.ndarray

    def values(self, split: str) -> dict[str, float]:
        """Returns the numbers by their names in metrics.jsonl and eval.json, such as "val/loss"."""
        names = ("loss", "top1_error", "top5_error", "examples", "views")
        return {f"{split}/{name}": getattr(self, name) for name in names}


def mean_probabilities(log_probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the logarithm of the mean of several probabilities, float64 [N, classes].

    Args:
      log_probabilities: float [N, classes] of each view, or of each net.
    """
    # Logarithms, because probabilities underflow to 0: a very wrong image has a finite loss. In
    # float64 on the host, so that ten views are averaged without a loss of digits.
    parts = [np.asarray(part, np.float64) for part in log_probabilities]
    return np.logaddexp.reduce(parts, axis=0) - np.log(len(parts))


def make_view_probabilities(model: AlexNet, devices: Devices) -> Callable[..., jax.Array]:
    """Returns the compiled function of (params, images, stats, row, column, mirror).

    It maps images, uint8 [N, S, S, 3], to log-probabilities, float32 [N, classes]. Row, column and
    mirror are those of `preprocess.view`. They are arguments, so that one program serves all ten
    views.
    """
    per_device = on_devices(model, devices.layout)

    def log_probabilities(
        params: Any, images: jax.Array, stats: InputStats, row: int, column: int, mirror: bool
    ) -> jax.Array:
        x = view(images, stats, model.net.crop, row, column, mirror)
        logits = per_device.apply({"params": params}, x)[0].astype(jnp.float32)
        # All rows on every device, so that every process can fetch them to its host.
        return parallel.gather_rows(jax.nn.log_softmax(logits), devices.layout)

    batch = parallel.batch_spec(devices.layout)
    specs = (param_specs(model.net, devices.layout), batch, *[REPLICATED] * 4)
    return devices.compile(log_probabilities, specs, REPLICATED)


def make_predict(
    view_probabilities: Callable[..., jax.Array], params: Any, stats: InputStats, views: int
) -> Predict:
    """Returns one net's prediction function, which averages over 1 or 10 views (paper §4.1).

    The function maps images, uint8 [N, S, S, 3], to log-probabilities, float64 [N, classes].
    """

    def predict(images: jax.Array) -> np.ndarray:
        parts = [view_probabilities(params, images, stats, *place) for place in VIEWS[views]]
        return mean_probabilities(parts)

    return predict


def batches_on_devices(
    config: ConfigDict, split: Split, devices: Devices
) -> Iterator[dict[str, Any]]:
    """Yields every image of the split once, in order, on the devices; labels stay on the host."""
    size = config.eval.batch_size
    batches = evaluation_batches(
        split,
        size,
        device_bytes=config.data.device_megabytes * 10**6,
        share=devices.process_slice(size),
    )
    for batch in batches:
        yield {**batch, "image": devices.shard(batch["image"], size)}


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Returns the k classes with the highest scores of each row, int [N, k or all classes].

    Of equal scores the lower class comes first.
    """
    # A stable sort: the default may order equal scores otherwise on another machine.
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def score(log_probabilities: np.ndarray, labels: np.ndarray, views: int) -> Evaluation:
    """Returns the errors of float [N, classes] log-probabilities against int [N] labels."""
    likeliest = top_k(log_probabilities, 5)
    correct = likeliest == labels[:, None]
    return Evaluation(
        loss=float(-log_probabilities[np.arange(len(labels)), labels].mean()),
        top1_error=float(1 - correct[:, 0].mean()),
        top5_error=float(1 - correct.any(axis=1).mean()),
        examples=len(labels),
        views=views,
        probabilities=np.exp(log_probabilities).astype(np.float32),
        labels=labels,
        likeliest=likeliest,
    )


def evaluate(
    members: Sequence[Predict], batches: Iterator[dict[str, Any]], examples: int, views: int
) -> Evaluation:
    """Runs every net of an ensemble over every image and averages their probabilities.

    Args:
      members: one or more nets' predictions.
      batches: dicts of `image` uint8 [B, S, S, 3], `label` int32 [B] and `mask` float32 [B], 0 for
        padding.
      examples: number of images in the split.
      views: 1 or 10, the number of views of the members.

    Raises:
      RuntimeError: the batches did not hold each image exactly once.
    """
    found, labels = [], []
    for batch in batches:
        real = np.asarray(batch["mask"]) > 0
        # All members predict a batch before the next one is read, so each image is decoded once.
        mean = mean_probabilities([predict(batch["image"]) for predict in members])
        found.append(mean[real])
        labels.append(np.asarray(batch["label"])[real])
    count = sum(map(len, labels))
    # Without this check, a fault in a share or mask would only change the error a little.
    if count != examples:
        raise RuntimeError(f"evaluated {count} images of a split of {examples}")
    return score(np.concatenate(found), np.concatenate(labels), views)


def evaluate_checkpoints(
    config: ConfigDict, devices: Devices, paths: Sequence[Path], split: Split
) -> tuple[Evaluation, list[int]]:
    """Evaluates the averaged probabilities of checkpoints on every image of a split.

    Args:
      config: of the evaluation: its batches and views. Each checkpoint has the config of its net
        and of its input.
      devices: to evaluate on.
      paths: of the checkpoints, as workdirs or workdir/checkpoints/STEP.
      split: images and labels.

    Returns:
      The evaluation and the checkpoints' steps.

    Raises:
      UserError: a checkpoint cannot be restored, or is another one for some processes of the run.
    """
    # Read once: a training that is still running may save a newer checkpoint at any moment.
    steps = [good_step(path) for path in paths]
    folders = [step_folder(workdir_of(path), x) for path, x in zip(paths, steps, strict=True)]
    check_same_checkpoints(devices, folders)
    members = []
    for folder in folders:
        model, variables, _ = load_on(folder, devices)
        stats = devices.replicate(restored_stats(variables))
        view_probabilities = make_view_probabilities(model, devices)
        members.append(
            make_predict(view_probabilities, variables["params"], stats, config.eval.views)
        )
    batches = batches_on_devices(config, split, devices)
    batches = with_progress(batches, len(split), config.eval.batch_size, "evaluation")
    return evaluate(members, batches, len(split), config.eval.views), steps


def write_probabilities(path: Path, evaluation: Evaluation) -> None:
    """Writes an .npz with `probabilities` float32 [N, classes] and `labels` int32 [N]."""
    with complete_file(path) as file:
        np.savez(file, probabilities=evaluation.probabilities, labels=evaluation.labels)


def write_submission(path: Path, evaluation: Evaluation) -> None:
    """Writes ILSVRC's submission file: a line per image with its five likeliest classes, from 1."""
    with complete_file(path) as file:
        np.savetxt(file, evaluation.likeliest + 1, fmt="%d")
