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
from alexnet_jax.nets.model import AlexNet, on_devices
from alexnet_jax.preprocess import VIEWS, Pixels, view_input

Predict = Callable[[jax.Array], np.ndarray]


@dataclass(frozen=True)
class Evaluation:
    """Errors are fractions of all images; loss is the mean −log of the label's probability."""

    loss: float
    top1_error: float
    top5_error: float
    examples: int
    views: int
    probabilities: np.ndarray  # float32 [examples, classes]
    labels: np.ndarray  # int32 [examples]

    def values(self, split: str) -> dict[str, float]:
        """The numbers under their names in metrics.jsonl and eval.json."""
        names = ("loss", "top1_error", "top5_error", "examples", "views")
        return {f"{split}/{name}": getattr(self, name) for name in names}


def view_probabilities(
    model: AlexNet, mesh: parallel.Mesh, layout: parallel.Layout
) -> Callable[..., jax.Array]:
    """(params, uint8 images [N, S, S, 3], pixels, *view) → float32 [N, classes], compiled."""
    here = on_devices(model, layout)

    def probabilities(
        params: Any, images: jax.Array, pixels: Pixels, row: int, column: int, mirror: bool
    ) -> jax.Array:
        x = view_input(images, pixels, model.net.crop, row, column, mirror)
        logits = here.apply({"params": params}, x)[0].astype(jnp.float32)
        return parallel.all_rows(jax.nn.softmax(logits), layout)

    batch, everywhere = parallel.batch_spec(layout), parallel.EVERYWHERE
    inputs = (parallel.param_specs(model.net, layout), batch, *[everywhere] * 4)
    return parallel.on_mesh(probabilities, mesh, inputs, everywhere)


def averaged(
    probabilities: Callable[..., jax.Array], params: Any, pixels: Pixels, views: int
) -> Predict:
    """One net's probabilities, averaged over 1 or 10 views (paper §4.1)."""

    def predict(images: jax.Array) -> np.ndarray:
        parts = [probabilities(params, images, pixels, *view) for view in VIEWS[views]]
        return np.mean([np.asarray(part, np.float64) for part in parts], axis=0)

    return predict


def batches_on_mesh(
    config: ConfigDict, split: Split, mesh: parallel.Mesh
) -> Iterator[dict[str, Any]]:
    """Every image of the split once, in order, laid on the mesh; labels and mask stay here."""
    layout, size = parallel.layout_of(config.parallel), config.eval.batch_size
    batches = evaluation_batches(
        split,
        size,
        device_bytes=config.data.device_megabytes * 10**6,
        share=parallel.share(mesh, layout, size),
    )
    for batch in batches:
        yield {**batch, "image": parallel.put_batch(batch["image"], mesh, layout, size)}


def top_k(probabilities: np.ndarray, k: int) -> np.ndarray:
    """The k likeliest classes of each row, likeliest first; of equals the lower number first."""
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :k]


def score(probabilities: np.ndarray, labels: np.ndarray, views: int) -> Evaluation:
    """Errors of float [N, classes] probabilities against int [N] labels."""
    best = top_k(probabilities, 5)
    right = best == labels[:, None]
    of_label = probabilities[np.arange(len(labels)), labels]
    return Evaluation(
        loss=float(np.mean(-np.log(np.maximum(of_label, np.finfo(np.float32).tiny)))),
        top1_error=float(1 - right[:, 0].mean()),
        top5_error=float(1 - right.any(axis=1).mean()),
        examples=len(labels),
        views=views,
        probabilities=probabilities.astype(np.float32),
        labels=labels,
    )


def evaluate(
    members: Sequence[Predict], batches: Iterator[dict[str, Any]], examples: int, views: int
) -> Evaluation:
    """Runs every net of an ensemble over every image and averages their probabilities.

    Args:
      members: one or more nets' predictions.
      batches: uint8 images, int32 labels, float32 mask (0 = padding).
      examples: the size of the split.
      views: 1 or 10, as the members were made.

    Raises:
      RuntimeError: the batches did not hold each image exactly once.
    """
    probabilities, labels = [], []
    for batch in batches:
        real = np.asarray(batch["mask"]) > 0
        mean = np.mean([predict(batch["image"]) for predict in members], axis=0)
        probabilities.append(mean[real])
        labels.append(np.asarray(batch["label"])[real])
    count = sum(map(len, labels))
    if count != examples:
        raise RuntimeError(f"evaluated {count} images of a split of {examples}")
    return score(np.concatenate(probabilities), np.concatenate(labels), views)


def write_probabilities(path: Path, evaluation: Evaluation) -> None:
    """An .npz with `probabilities` float32 [N, classes] and `labels` int32 [N]."""
    np.savez(path, probabilities=evaluation.probabilities, labels=evaluation.labels)


def write_submission(path: Path, evaluation: Evaluation) -> None:
    """ILSVRC's text form: a line an image, its five likeliest classes, counted from 1."""
    np.savetxt(path, top_k(evaluation.probabilities, 5) + 1, fmt="%d")
