"""Learning-rate schedules, and the rate of every parameter at a step."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from alexnet_jax.nets.spec import Net
from alexnet_jax.nets.variants import learned_layers

Array = jax.Array
Schedule = Callable[[Array], Array]
SMOOTH = ("linear", "cosine")  # schedules whose rate changes at every step


def listed(first: float, changes: Sequence[tuple[float, float]], steps_per_epoch: int) -> Schedule:
    """Returns a schedule that begins with `first`; each (epoch, value) holds from its epoch on.

    The logs of the released code show such rates, changed by hand between restarts.

    Args:
      first: the value until the first change.
      changes: (epoch, value), in the order of the epochs, which may be fractions.
      steps_per_epoch: number of batches in an epoch.
    """

    def value(step: Array) -> Array:
        result = jnp.float32(first)
        # Selects, not branches: under jit the step has no value yet. The last true one wins.
        for epoch, changed in changes:
            result = jnp.where(step >= round(epoch * steps_per_epoch), changed, result)
        return result

    return value


def dexp(first: float, target: float, steps: int, total_steps: int) -> Schedule:
    """Returns a schedule from `first` down to first ÷ target in `steps` equal parts of training.

    The rate of part i, from 0 to n − 1, is first · target^(−i ÷ (n − 1)), as in the released code's
    `dexp[tgtFactor,numSteps]`.
    """
    changes = [
        (i * total_steps / steps, first * target ** (-i / (steps - 1))) for i in range(1, steps)
    ]
    return listed(first, changes, 1)  # the changes are in steps: an epoch counts as one step


def schedule(optim: ConfigDict, steps_per_epoch: int, total_steps: int) -> Schedule:
    """Returns the weights' learning rate as a function of the step, before any plateau drops."""
    after = _after_warmup(optim, steps_per_epoch, total_steps)
    steps = round(optim.warmup_epochs * steps_per_epoch)
    # A warm-up of one step would begin, and end, at the full rate.
    if steps < 2:
        return after
    # From 1 ÷ steps, not from 0: a rate of 0 means a frozen layer (`update.momentum_rule`).
    rise = optax.linear_schedule(1 / steps, 1.0, steps - 1)
    return lambda step: rise(step) * after(step)


def _after_warmup(optim: ConfigDict, steps_per_epoch: int, total_steps: int) -> Schedule:
    rate = optim.learning_rate
    if optim.schedule == "linear":
        return optax.linear_schedule(rate, 0.0, total_steps)
    if optim.schedule == "cosine":
        return optax.cosine_decay_schedule(rate, total_steps)
    if optim.schedule == "dexp":
        return dexp(rate, optim.dexp_target, optim.dexp_steps, total_steps)
    # "constant" and "plateau" are a list without changes. The drops of a plateau depend on the
    # validations, so they are a factor in the state.
    changes = {"listed": optim.listed, "constant": (), "plateau": ()}[optim.schedule]
    return listed(rate, changes, steps_per_epoch)


def plateau(optim: ConfigDict) -> optax.GradientTransformationExtraArgs:
    """Returns the rule that lowers the rate when the validation error stops improving (paper §5).

    Its `update` is called after a validation, with `value=error`. The `scale` in its state
    multiplies the learning rates.
    """
    return optax.contrib.reduce_on_plateau(
        factor=optim.plateau_factor,
        patience=optim.plateau_patience,
        # Any lower error is an improvement. optax needs a margin above 0; this one is less than
        # one of 100,000 images.
        rtol=0.0,
        atol=1e-6,
        min_scale=optim.plateau_factor**optim.plateau_drops,  # stops the drops: the paper had three
    )


def layer_factors(optim: ConfigDict, net: Net) -> dict[str, float]:
    """Returns, for each layer, the factor on the learning rates of its parameters.

    The factor is `spec.Weighted.rate` times the layer's entry in optim.layer_factors, by default
    1. A factor of 0 freezes the layer.
    """
    given = dict(optim.layer_factors)
    return {name: layer.rate * given.get(name, 1.0) for name, layer in learned_layers(net).items()}


def learning_rates(
    optim: ConfigDict, net: Net, steps_per_epoch: int, total_steps: int
) -> Callable[[Array, Array], dict[str, dict[str, Array]]]:
    """Returns the learning rate of every parameter as a function of the step and the plateau scale.

    The function's result is {layer: {"kernel": rate, "bias": rate}}, float32 []. The scale of
    BatchNorm has the rate of a kernel. The rates of the common schedule are multiplied by the
    layer's factor (`layer_factors`).

    The weights of a layer in optim.listed_layers leave the common schedule at the first epoch
    listed for that layer. From then on they have the listed rates themselves, without the layer's
    factor and the plateau scale. If the rate of the weights is 0, the biases are frozen too.
    """
    common, factors = schedule(optim, steps_per_epoch, total_steps), layer_factors(optim, net)
    first_bias = optim.learning_rate * optim.bias_multiplier

    def at(step: Array, scale: Array) -> dict[str, dict[str, Array]]:
        weight = common(step) * scale
        # In the released code's logs the biases keep 0.02, while the weights' rate drops.
        bias = weight * optim.bias_multiplier if optim.bias_follows else jnp.float32(first_bias)
        result = {}
        for name, layer in learned_layers(net).items():
            factor = factors[name]
            own = [(epoch, rate) for other, epoch, rate in optim.listed_layers if other == name]
            kernel = listed(-1.0, own, steps_per_epoch)(step)  # −1: no listed epoch has come yet
            kernel = jnp.where(kernel < 0, weight * factor, kernel)
            result[name] = {layer.weights: kernel}
            if layer.bias is not None:
                result[name]["bias"] = jnp.where(kernel > 0, bias * factor, 0.0)
        return result

    return at
