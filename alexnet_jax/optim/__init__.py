"""The paper's update rule, its schedules, and rates and weight decay by layer."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from alexnet_jax.nets.variants import weighted_layers
from alexnet_jax.nets.zoo import Net

Array = jax.Array
Schedule = Callable[[Array], Array]

SCHEDULES = ("plateau", "listed", "dexp", "constant", "cosine")
RULES = ("paper", "sgd")


class Velocity(NamedTuple):
    """The optimizer's state: one float32 array a parameter, of its shape."""

    velocity: Any


def listed(first: float, changes: Sequence[tuple[float, float]], steps_per_epoch: int) -> Schedule:
    """`first` until changed: each (epoch, value) holds from that epoch on, in order.

    As the logs of the released code have it: the rate was changed by hand between restarts.
    """

    def value(step: Array) -> Array:
        result = jnp.float32(first)
        for epoch, changed in changes:
            result = jnp.where(step >= round(epoch * steps_per_epoch), changed, result)
        return result

    return value


def dexp(first: float, target: float, steps: int, total_steps: int) -> Schedule:
    """From `first` down to first ÷ target in `steps` equal parts of training.

    Rate i of n is first · target^(−i ÷ (n − 1)) (released code, `dexp[tgtFactor,numSteps]`).
    """
    changes = [
        (i * total_steps / steps, first * target ** (-i / (steps - 1))) for i in range(1, steps)
    ]
    return listed(first, changes, 1)


def schedule(optim: ConfigDict, steps_per_epoch: int, total_steps: int) -> Schedule:
    """The weights' learning rate as a function of the step, before any plateau drops."""
    rate = optim.learning_rate
    if optim.schedule == "cosine":
        return optax.cosine_decay_schedule(rate, total_steps)
    if optim.schedule == "dexp":
        return dexp(rate, optim.dexp_target, optim.dexp_steps, total_steps)
    return listed(rate, optim.listed if optim.schedule == "listed" else (), steps_per_epoch)


def plateau(optim: ConfigDict) -> optax.GradientTransformationExtraArgs:
    """Divides the rate when the validation error stops improving, three times at most (§5).

    Updated once an evaluation with `value=error`; its state's `scale` multiplies the rate.
    """
    return optax.contrib.reduce_on_plateau(
        factor=optim.plateau_factor,
        patience=optim.plateau_patience,
        rtol=0.0,
        atol=1e-6,
        min_scale=optim.plateau_factor**optim.plateau_drops,
    )


def rates(
    optim: ConfigDict, net: Net, steps_per_epoch: int, total_steps: int
) -> Callable[[Array, Array], dict[str, dict[str, Array]]]:
    """The learning rate of every parameter: (step, plateau scale) → {layer: {kernel, bias}}.

    A layer in `optim.listed_layers` leaves the common schedule at its first epoch there; at a
    rate of 0 it is frozen, its bias too.
    """
    common = schedule(optim, steps_per_epoch, total_steps)
    first_bias = optim.learning_rate * optim.bias_multiplier

    def at(step: Array, scale: Array) -> dict[str, dict[str, Array]]:
        weight = common(step) * scale
        bias = weight * optim.bias_multiplier if optim.bias_follows else jnp.float32(first_bias)
        result = {}
        for name, layer in weighted_layers(net).items():
            own = [(epoch, rate) for other, epoch, rate in optim.listed_layers if other == name]
            kernel = listed(-1.0, own, steps_per_epoch)(step)
            kernel = jnp.where(kernel < 0, weight * layer.rate, kernel)
            result[name] = {
                "kernel": kernel,
                "bias": jnp.where(kernel > 0, bias * layer.rate, 0.0),
            }
        return result

    return at


def decays(optim: ConfigDict, net: Net) -> dict[str, dict[str, float]]:
    """Weight decay of every parameter: the layer's own, else the config's; none for biases."""
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
    """Gradient descent with momentum and coupled weight decay; `update` takes `rates=`.

    rate_inside (paper §5; released code, `weights.cu`):  v ← m·v − ε·(g + d·w),  w ← w + v.
    Otherwise (optax.sgd, PyTorch):                       v ← m·v + g + d·w,      w ← w − ε·v.
    They agree until ε changes: the paper's velocity coasts on at the old rate. A parameter whose
    ε is 0 is frozen, and so is its velocity.
    """

    def init(params: Any) -> Velocity:
        return Velocity(jax.tree.map(jnp.zeros_like, params))

    def leaf(g: Array, v: Array, w: Array, decay: float, rate: Array) -> tuple[Array, Array]:
        force = g + decay * w
        new = momentum * v - rate * force if rate_inside else momentum * v + force
        step = new if rate_inside else -rate * new
        frozen = rate == 0
        return jnp.where(frozen, 0.0, step), jnp.where(frozen, v, new)

    def update(
        grads: Any, state: Velocity, params: Any, *, rates: Any, **_: Any
    ) -> tuple[Any, Velocity]:
        pairs = jax.tree.map(leaf, grads, state.velocity, params, weight_decays, rates)
        steps, velocity = jax.tree.transpose(
            jax.tree.structure(grads), jax.tree.structure((0, 0)), pairs
        )
        return steps, Velocity(velocity)

    return optax.GradientTransformationExtraArgs(init, update)


def make_optimizer(optim: ConfigDict, net: Net) -> optax.GradientTransformationExtraArgs:
    """The config's update rule for this net."""
    return momentum_rule(decays(optim, net), optim.momentum, optim.name == "paper")
