"""Fisher vectors of dense SIFT and colour descriptors: the method of ILSVRC 2011's winner.

Source: Sánchez, Perronnin, Mensink and Verbeek, "Image Classification with the Fisher Vector:
Theory and Practice", IJCV 2013. The place of a descriptor in the image is appended to it, as in
Sánchez, Perronnin and de Campos, Pattern Recognition Letters 2012.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from alexnet_jax.baseline.descriptors import colour, places, sift
from alexnet_jax.baseline.images import limit
from alexnet_jax.data import Split
from alexnet_jax.data.records import read_images

KINDS = (sift, colour)  # of descriptors, each with its own mixture
COMPONENTS = 64  # principal components that are kept of a descriptor
WIDTH = COMPONENTS + 2  # and its place
LEARN_IMAGES = 1000  # random training images whose descriptors the mixtures are learned from
LEARN_DESCRIPTORS = 200_000  # random ones among these


class Model(NamedTuple):
    """Principal components of descriptors, and a Gaussian mixture of the reduced descriptors."""

    mean: np.ndarray  # float32 [D]
    components: np.ndarray  # float32 [D, 64]
    weights: np.ndarray  # float32 [K], their sum is 1
    means: np.ndarray  # float32 [K, 66]
    variances: np.ndarray  # float32 [K, 66]


def num_features(gaussians: int) -> int:
    """Returns the number of features of an image."""
    return len(KINDS) * 2 * WIDTH * gaussians


def learn(split: Split, gaussians: int, seed: int) -> tuple[Model, ...]:
    """Returns a model of each kind of descriptor; labels are not used."""
    sample = limit(split, LEARN_IMAGES, seed)
    images = read_images(sample, np.arange(len(sample)))
    at = np.tile(places(images.shape[1]), (len(images), 1))
    chosen = np.random.default_rng(seed).permutation(len(at))[:LEARN_DESCRIPTORS]
    models = []
    for kind in KINDS:
        each = jax.jit(lambda x, kind=kind: jax.lax.map(lambda image: kind(_float(image)), x))
        found = np.asarray(each(images)).reshape(len(at), -1)[chosen]
        models.append(fit_model(found, at[chosen], gaussians, seed))
    return tuple(models)


def fit_model(descriptors: np.ndarray, at: np.ndarray, gaussians: int, seed: int) -> Model:
    """Returns the model of float32 [N, D] descriptors at these places [N, 2]."""
    pca = PCA(COMPONENTS, random_state=seed).fit(descriptors)
    reduced = np.hstack([pca.transform(descriptors), at])
    mixture = GaussianMixture(gaussians, covariance_type="diag", random_state=seed).fit(reduced)
    found = (pca.mean_, pca.components_.T, mixture.weights_, mixture.means_, mixture.covariances_)
    return Model(*(x.astype(np.float32) for x in found))


def encoder(models: tuple[Model, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a compiled function: uint8 [N, S, S, 3] → float32 [N, num_features]."""

    @jax.jit
    def encode(models: tuple[Model, ...], images: jax.Array) -> jax.Array:
        return jax.lax.map(lambda image: encode_one(models, _float(image)), images)

    return lambda images: np.asarray(encode(models, images))


def encode_one(models: tuple[Model, ...], image: jax.Array) -> jax.Array:
    """Returns the normalised Fisher vectors of both kinds: float32 [S, S, 3] → [num_features]."""
    at, found = places(len(image)), []
    for kind, model in zip(KINDS, models, strict=True):
        reduced = (kind(image) - model.mean) @ model.components
        found.append(improve(fisher_vector(jnp.hstack([reduced, at]), model)))
    return jnp.concatenate(found)


def fisher_vector(x: jax.Array, model: Model) -> jax.Array:
    """Returns the Fisher vector of T descriptors: float32 [T, D] → [2·K·D].

    With γ the probability of Gaussian k given x_t: Σ γ (x − μ) ÷ σ ÷ (T √w), then
    Σ γ ((x − μ)² ÷ σ² − 1) ÷ (T √(2 w)); the gradients of the mean log-likelihood with respect to μ
    and σ, each divided by the root of its Fisher information.
    """
    mean, variance = model.means, model.variances
    # The logarithm of each Gaussian's weighted density, but for D ÷ 2 · ln 2π, which cancels.
    log = -0.5 * (x**2 @ (1 / variance).T - 2 * x @ (mean / variance).T)
    log += jnp.log(model.weights) - 0.5 * (jnp.log(variance) + mean**2 / variance).sum(1)
    share = jax.nn.softmax(log, axis=1) / len(x)
    s0, s1, s2 = share.sum(0)[:, None], share.T @ x, share.T @ x**2
    root = jnp.sqrt(model.weights)[:, None]
    of_mean = (s1 - mean * s0) / (jnp.sqrt(variance) * root)
    of_deviation = (s2 - 2 * mean * s1 + (mean**2 - variance) * s0) / (variance * root * 2**0.5)
    return jnp.concatenate([of_mean.ravel(), of_deviation.ravel()])


def improve(vector: jax.Array) -> jax.Array:
    """Returns sign(x) √|x|, divided by its length (Perronnin, Sánchez and Mensink, ECCV 2010)."""
    powered = jnp.sign(vector) * jnp.sqrt(jnp.abs(vector))
    return powered / jnp.maximum(jnp.linalg.norm(powered), 1e-12)


def _float(image: jax.Array) -> jax.Array:
    return image.astype(jnp.float32)
