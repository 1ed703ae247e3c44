"""The update rules of the paper, of optax.sgd and of LARS, with rates and weight decay by layer."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from alexnet_jax.nets.placement import kernel_norms
from alexnet_jax.nets.spec import Learned, Net
from alexnet_jax.nets.variants import learned_layers
from alexnet_jax.parallel import Layout

Array = jax.Array


class MomentumState(NamedTuple):
    """The optimizer's state.

    Attributes:
      velocity: one float32 array a parameter, of its shape.
    """

    velocity: Any


def decays(optim: ConfigDict, net: Net) -> dict[str, dict[str, float]]:
    """Returns every parameter's weight decay: the layer's own or the config's, 0 for biases.

    The result is {layer: {"kernel": decay, "bias": 0}}, with "scale" for BatchNorm.
    """

    def of_layer(layer: Learned) -> dict[str, float]:
        decay = optim.weight_decay if layer.weight_decay is None else layer.weight_decay
        return {layer.weights: decay, **({} if layer.bias is None else {"bias": 0.0})}

    return {name: of_layer(layer) for name, layer in learned_layers(net).items()}


def momentum_rule(
    weight_decays: Any, momentum: float, rate_inside: bool
) -> optax.GradientTransformationExtraArgs:
    """Returns gradient descent with momentum m and coupled weight decay d.

    rate_inside (paper §5; released code, `weights.cu`):  v ← m·v − ε·(g + d·w),  w ← w + v.
    Otherwise (optax.sgd, PyTorch):                       v ← m·v + g + d·w,      w ← w − ε·v.
    The two agree until ε changes. Then the paper's velocity, which holds the old ε, coasts on at
    the old rate. A parameter whose ε is 0 is frozen, and so is its velocity (`weights.cu`).

    Args:
      weight_decays: d of every parameter, as `decays` returns them.
      momentum: m.
      rate_inside: True for the paper's formula, False for optax's.

    Returns:
      A transformation whose `update` takes `rates=`, as `learning_rates` returns them.
    """

    def init(params: Any) -> MomentumState:
        return MomentumState(jax.tree.map(jnp.zeros_like, params))

    def leaf(g: Array, v: Array, w: Array, decay: float, rate: Array) -> tuple[Array, Array]:
        # The decay is part of what the momentum sums up, not decoupled from it as in AdamW.
        force = g + decay * w
        new = momentum * v - rate * force if rate_inside else momentum * v + force
        step = new if rate_inside else -rate * new
        # A select on top: with a rate of 0, the paper's formula would still move w by m·v.
        frozen = rate == 0
        return jnp.where(frozen, 0.0, step), jnp.where(frozen, v, new)

    def update(
        grads: Any, state: MomentumState, params: Any, *, rates: Any, **_: Any
    ) -> tuple[Any, MomentumState]:
        pairs = jax.tree.map(leaf, grads, state.velocity, params, weight_decays, rates)
        steps, velocity = jax.tree.transpose(  # a tree of pairs → a pair of trees
            jax.tree.structure(grads), jax.tree.structure((0, 0)), pairs
        )
        return steps, MomentumState(velocity)

    return optax.GradientTransformationExtraArgs(init, update)


def lars_rule(
    weight_decays: Any, momentum: float, trust: float, norms: Callable[[Any], dict[str, Array]]
) -> optax.GradientTransformationExtraArgs:
    """Returns LARS (You et al., arXiv 1708.03888, algorithm 1).

    f = g + d·w,  v ← m·v − ε·(trust ‖w‖ ÷ ‖f‖)·f,  w ← w + v.

    The factor trust ‖w‖ ÷ ‖f‖ is 1 for all but kernels, and if one of the norms is 0. This is
    optax.lars with all but kernels masked. optax itself would take the norms of the shard that one
    device holds.

    Args:
      weight_decays: d of every parameter, as `decays` returns them.
      momentum: m.
      trust: the trust coefficient.
      norms: returns the Euclidean norm of every layer's kernel, over the shards of all devices.

    Returns:
      A transformation like that of `momentum_rule`.
    """
    # No decay in the rule: it is part of f already, whose norm LARS takes.
    rule = momentum_rule(jax.tree.map(lambda _: 0.0, weight_decays), momentum, rate_inside=True)

    def scaled(f: Array, w_norm: Array, f_norm: Array) -> Array:
        known = (w_norm > 0) & (f_norm > 0)
        # The inner select keeps a division by 0 out of the unused branch.
        return f * jnp.where(known, trust * w_norm / jnp.where(known, f_norm, 1.0), 1.0)

    def update(
        grads: Any, state: MomentumState, params: Any, *, rates: Any, **_: Any
    ) -> tuple[Any, MomentumState]:
        forces = jax.tree.map(lambda g, w, d: g + d * w, grads, params, weight_decays)
        w_norms, f_norms = norms(params), norms(forces)
        kernels = {
            name: {"kernel": scaled(forces[name]["kernel"], w_norms[name], f_norms[name])}
            for name in w_norms
        }
        forces = {name: {**f, **kernels.get(name, {})} for name, f in forces.items()}
        return rule.update(forces, state, params, rates=rates)

    return optax.GradientTransformationExtraArgs(rule.init, update)


def make_optimizer(
    optim: ConfigDict, net: Net, layout: Layout
) -> optax.GradientTransformationExtraArgs:
    """Returns the config's update rule for this net, as one device of the layout computes it."""
    if optim.name == "lars":
        norms = partial(kernel_norms, net=net, layout=layout)
        return lars_rule(decays(optim, net), optim.momentum, optim.trust_coefficient, norms)
    # Looked up: from Python, another name would otherwise be one of the two without a word.
    rate_inside = {"paper": True, "sgd": False}[optim.name]
    return momentum_rule(decays(optim, net), optim.momentum, rate_inside)
