"""The paper's update rule, with rates and weight decay by layer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from alexnet_jax.nets.spec import Net
from alexnet_jax.nets.variants import weighted_layers

Array = jax.Array


class MomentumState(NamedTuple):
    """The optimizer's state.

    Attributes:
      velocity: one float32 array a parameter, of its shape.
    """

    velocity: Any


def decays(optim: ConfigDict, net: Net) -> dict[str, dict[str, float]]:
    """Returns every parameter's weight decay: the layer's own or the config's, 0 for biases."""
    return {
        name: {
            "kernel": optim.weight_decay if layer.weight_decay is None else layer.weight_decay,
            "bias": 0.0,
        }
        for name, layer in weighted_layers(net).items()
    }


def momentum_rule(
    weight_decays: Any, momentum: float, rate_inside: bool
) -> optax.GradientTransformationExtraArgs:
    """Returns gradient descent with momentum m and coupled weight decay d.

    rate_inside (paper §5; released code, `weights.cu`):  v ← m·v − ε·(g + d·w),  w ← w + v.
    Otherwise (optax.sgd, PyTorch):                       v ← m·v + g + d·w,      w ← w − ε·v.
    They agree until ε changes: the paper's velocity coasts on at the old rate. A parameter whose
    ε is 0 is frozen, and so is its velocity.

    Args:
      weight_decays: of every parameter, as `decays` returns them.
      momentum: m.
      rate_inside: which of the two formulas.

    Returns:
      A transformation whose `update` takes `rates=`, as `learning_rates` returns them.
    """

    def init(params: Any) -> MomentumState:
        return MomentumState(jax.tree.map(jnp.zeros_like, params))

    def leaf(g: Array, v: Array, w: Array, decay: float, rate: Array) -> tuple[Array, Array]:
        force = g + decay * w
        new = momentum * v - rate * force if rate_inside else momentum * v + force
        step = new if rate_inside else -rate * new
        frozen = rate == 0
        return jnp.where(frozen, 0.0, step), jnp.where(frozen, v, new)

    def update(
        grads: Any, state: MomentumState, params: Any, *, rates: Any, **_: Any
    ) -> tuple[Any, MomentumState]:
        pairs = jax.tree.map(leaf, grads, state.velocity, params, weight_decays, rates)
        steps, velocity = jax.tree.transpose(
            jax.tree.structure(grads), jax.tree.structure((0, 0)), pairs
        )
        return steps, MomentumState(velocity)

    return optax.GradientTransformationExtraArgs(init, update)


def make_optimizer(optim: ConfigDict, net: Net) -> optax.GradientTransformationExtraArgs:
    """Returns the config's update rule for this net."""
    return momentum_rule(decays(optim, net), optim.momentum, optim.name == "paper")
