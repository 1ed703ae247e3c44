"""The loss of a part of a batch: cross-entropy, with smoothed labels if the config asks for it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from alexnet_jax.nets.model import AlexNet
from alexnet_jax.optim.schedules import layer_factors

Array = jax.Array


class Part(NamedTuple):
    """The images of a part of a batch on one device, and the labels of the logits.

    The logits have n rows, one per image; in the hybrid scheme they have those of all devices.

    Attributes:
      images: float32 [n, crop, crop, 3], augmented.
      examples: int32 [n], positions of the images in the batch.
      mask: float32 [n], 1 for an image and 0 for padding.
      labels: int32 [rows], the labels of the logits' rows.
      real: float32 [rows], the mask of the logits' rows.
    """

    images: Array
    examples: Array
    mask: Array
    labels: Array
    real: Array


def cross_entropy(logits: Array, labels: Array, smoothing: float) -> Array:
    """Returns each image's cross-entropy, float32 [N].

    Args:
      logits: float32 [N, classes].
      labels: int32 [N].
      smoothing: probability that the target gives to all classes in equal parts; the label gets the
        rest (Szegedy et al., arXiv 1512.00567, section 7).
    """
    # Without smoothing no one-hot array [N, classes] is needed.
    if not smoothing:
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.losses.softmax_cross_entropy(logits, targets)


def make_loss(config: ConfigDict, model: AlexNet) -> Callable[..., tuple[Array, Any]]:
    """Returns the function (params, part, count, key) → (loss, (errors, moments)).

    params: {layer: {name: float32}}, this device's, without running averages.
    part: a `Part`.
    count: float32 [], the number of real images in the whole batch.
    key: decides which units are dropped.

    loss: float32 [], the sum of the cross-entropies of the part's real images, divided by `count`
      (paper §5).
    errors: float32 [], the number of misclassified real images.
    moments: {layer: {"mean", "variance"}} of batch normalisation, over all devices.

    Frozen layers have gradients of 0, which XLA does not compute.
    """
    dtype, smoothing = config.train.compute_dtype, config.train.label_smoothing
    # Known when the step is compiled, so that XLA drops the backward pass of frozen layers.
    frozen = {name for name, x in layer_factors(config.optim, model.net).items() if x == 0}

    def loss(params: Any, part: Part, count: Array, key: Array) -> tuple[Array, Any]:
        params = {
            name: jax.lax.stop_gradient(leaves) if name in frozen else leaves
            for name, leaves in params.items()
        }
        # The cast is inside the differentiated function, so that gradients and update stay float32.
        params, images = jax.tree.map(lambda x: x.astype(dtype), (params, part.images))
        (logits, _), found = model.apply(
            {"params": params},
            images,
            train=True,
            examples=part.examples,
            mask=part.mask,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        # bfloat16 has three digits: too few for a logarithm of a sum of exponentials.
        logits = logits.astype(jnp.float32)
        losses = cross_entropy(logits, part.labels, smoothing)
        errors = ((logits.argmax(-1) != part.labels) * part.real).sum()
        # By all real images of the batch, not of this part, so that the gradients of the parts add
        # up to the gradient of the batch.
        return (losses * part.real).sum() / count, (errors, found.get("batch_stats", {}))

    return loss
