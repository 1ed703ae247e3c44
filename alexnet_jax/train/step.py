"""The training state and the training step, a pure function from one state to the next."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from alexnet_jax import parallel
from alexnet_jax.nets.model import AlexNet, on_devices
from alexnet_jax.nets.placement import global_norm, param_specs, per_device_params
from alexnet_jax.nets.shapes import without_statistics
from alexnet_jax.nets.spec import Net
from alexnet_jax.nets.variants import learned_layers
from alexnet_jax.optim.average import moving_average
from alexnet_jax.optim.schedules import learning_rates, plateau, schedule
from alexnet_jax.optim.update import MomentumState, make_optimizer
from alexnet_jax.parallel import REPLICATED, Devices, Layout
from alexnet_jax.preprocess import InputStats, augment_batch, colour_scale
from alexnet_jax.train.loss import Part, make_loss

Batch = dict[str, Any]
Scalars = dict[str, jax.Array]
Step = Callable[["TrainState", Batch, InputStats], tuple["TrainState", Scalars]]


class TrainState(struct.PyTreeNode):
    """Everything that training updates; a checkpoint holds exactly this.

    Attributes:
      step: int32, batches trained on.
      params: float32, {layer: {"kernel", "bias"}}, with the running averages of BatchNorm.
      average: moving average of the parameters, used in evaluation; None if train.ema_decay is 0.
      opt_state: the optimizer's, of the parameters' shapes.
      plateau: state of the plateau schedule.
      sums: float32 sums over this epoch's images so far: loss, errors, examples.
      validated_step: int32, the step last validated; −1 before the first time.
    """

    step: jax.Array
    params: Any
    average: Any
    opt_state: Any
    plateau: Any
    sums: Scalars
    validated_step: jax.Array


def make_initial_state(config: ConfigDict, model: AlexNet) -> Callable[[], TrainState]:
    """Returns a function that makes the state at step 0 from config.seed."""
    net, optimizer = model.net, make_optimizer(config.optim, model.net, model.layout)

    def initial_state() -> TrainState:
        # Only shapes of parameters depend on it, and XLA removes the forward pass.
        images = jnp.zeros((1, net.crop, net.crop, 3))
        params = model.init(jax.random.key(config.seed), images)["params"]
        return TrainState(
            step=jnp.int32(0),
            params=params,
            # A copy: the step donates its state, and no buffer can be donated twice.
            average=jax.tree.map(jnp.copy, params) if config.train.ema_decay else None,
            opt_state=optimizer.init(without_statistics(params)),
            # optax wants parameters, of which this transform reads nothing but a dtype.
            plateau=plateau(config.optim).init(jnp.float32(0)),
            # float32 counts exactly up to 2²⁴ images, thirteen times an epoch of ImageNet.
            sums={name: jnp.float32(0) for name in ("loss", "errors", "examples")},
            validated_step=jnp.int32(-1),
        )

    return initial_state


def evaluated_params(state: TrainState) -> Any:
    """Returns the parameters to evaluate: the moving average, or without one the last ones."""
    return state.params if state.average is None else state.average


def with_params(state: TrainState, params: Any) -> TrainState:
    """Returns the state with other parameters, which are also the average so far."""
    average = None if state.average is None else jax.tree.map(jnp.copy, params)  # donated too
    return state.replace(params=params, average=average)


def swap_average(state: TrainState) -> TrainState:
    """Exchanges the parameters and their moving average; without one the state stays as it is.

    A checkpoint holds the exchanged state, so that whoever reads only its `params` gets those that
    were evaluated.
    """
    return state.replace(
        params=evaluated_params(state), average=None if state.average is None else state.params
    )


def computed_after(known: Any, x: jax.Array) -> jax.Array:
    """Returns x unchanged, but makes XLA compute the float arrays `known` first.

    A NaN in them becomes a NaN in x. An optimization_barrier would be plainer, but XLA drops it on
    a CPU before it orders the work.
    """
    first = sum(leaf.ravel()[0] for leaf in jax.tree.leaves(known))
    return jnp.where(jnp.isnan(first), first, x)


def make_gradients(config: ConfigDict, model: AlexNet) -> Callable[..., tuple[Any, Any, Any]]:
    """Returns the function (params, images, batch, key) → (sums, moments, gradients).

    `sums` are (loss, errors, examples): the mean loss over the batch's real images, and the numbers
    of misclassified and of all real images. They, the gradients and the moments (see `make_loss`)
    are of the whole batch, on every device. `params` and gradients are without running averages.

    The batch is worked through in train.accumulate_steps parts, one after the other. They are
    unrolled: on a CPU, XLA's convolutions are eight times slower in a loop (jax issue 12868).
    """
    parts, layout = config.train.accumulate_steps, model.layout
    own_params = partial(per_device_params, net=model.net, layout=layout)
    shares = layout.data if layout.hybrid else 1  # devices whose rows the logits have
    gradients_of = jax.value_and_grad(make_loss(config, model), has_aux=True)

    def gradients(
        params: Any, images: jax.Array, batch: Batch, key: jax.Array
    ) -> tuple[Any, Any, Any]:
        labels, real = (parallel.gather_labels(batch[x], layout) for x in ("label", "mask"))
        count = parallel.psum_batch(real.sum(), layout)
        indices = parallel.example_indices(len(images), layout)

        def part_of(images: jax.Array, index: parallel.PartIndex) -> Part:
            own = (parallel.part_rows(x, index) for x in (images, indices, batch["mask"]))
            rows = (parallel.part_rows(x, index, shares) for x in (labels, real))
            return Part(*own, *rows)

        # The gradients of all parts are summed on the device first, then over the devices once.
        copies, sum_over_devices = jax.vjp(own_params, params)
        sums = gradients_of(copies, part_of(images, (0, parts)), count, key)
        for i in range(1, parts):
            # One part after the other: otherwise XLA holds the activations of several at once.
            part = part_of(computed_after(sums, images), (i, parts))
            sums = jax.tree.map(jnp.add, sums, gradients_of(copies, part, count, key))
        (loss, (errors, moments)), grads = sums
        loss, errors = (parallel.psum_batch(x, layout) for x in (loss, errors))
        return (loss, errors, count), moments, sum_over_devices(grads)[0]

    return gradients


def with_statistics(learned: Any, params: Any, moments: Any, net: Net) -> Any:
    """Returns the learned parameters and the running averages of batch normalisation.

    Args:
      learned: new parameters, without averages.
      params: the old ones with the averages so far, a ← decay · a + (1 − decay) · moment.
      moments: {layer: {"mean", "variance"}} of the batch.
      net: its layers hold the decays.
    """
    averages = {}
    for name, moment in moments.items():
        so_far = {statistic: params[name][statistic] for statistic in moment}
        decay = learned_layers(net)[name].decay
        averages[name] = optax.incremental_update(moment, so_far, 1 - decay)
    return {name: {**leaves, **averages.get(name, {})} for name, leaves in learned.items()}


def epoch_sums(state: TrainState, new: Scalars, steps_per_epoch: int) -> Scalars:
    """Returns the sums over the images of the epoch so far, those of this step included."""
    # Reset in the step itself: no host has to interfere at the end of an epoch.
    first = state.step % steps_per_epoch == 0
    return {name: jnp.where(first, 0, state.sums[name]) + new[name] for name in new}


def make_train_step(
    config: ConfigDict, model: AlexNet, steps_per_epoch: int, total_steps: int
) -> Step:
    """Returns one step: augment, forward, backward, update. Pure; jit it and donate the state.

    A batch holds uint8 images [B, S, S, 3], int32 labels [B] and a float32 mask [B], 0 for
    padding. All randomness is a function of (config.seed, step, layer, place in the batch). With a
    model on several devices (`on_devices`) the step is what one of them computes, with its part of
    the state and of the batch.
    """
    layout = model.layout
    optimizer = make_optimizer(config.optim, model.net, layout)
    gradients = make_gradients(config, model)
    rates_at = learning_rates(config.optim, model.net, steps_per_epoch, total_steps)
    rate_at = schedule(config.optim, steps_per_epoch, total_steps)
    colour_at = colour_scale(config.data, steps_per_epoch)

    def step(state: TrainState, batch: Batch, stats: InputStats) -> tuple[TrainState, Scalars]:
        # No key is kept in the state: a resumed run draws what the uninterrupted one would have.
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        augment_key, dropout_key = jax.random.split(key)
        examples = parallel.example_indices(len(batch["image"]), layout)
        # Outside of the gradient: it is the same for every part, and nothing in it is learned.
        images = augment_batch(
            batch["image"], augment_key, examples, config.data, stats, colour_at(state.step)
        )
        # Running averages have no gradient, so the optimizer has no velocity and no decay for them.
        learned = without_statistics(state.params)
        (loss, errors, count), moments, grads = gradients(learned, images, batch, dropout_key)
        rates = rates_at(state.step, state.plateau.scale)
        updates, opt_state = optimizer.update(grads, state.opt_state, learned, rates=rates)
        new = {"loss": loss * count, "errors": errors, "examples": count}
        sums = epoch_sums(state, new, steps_per_epoch)
        scalars = {
            "loss": loss,
            "top1_error": errors / count,
            # The common rate of the weights: layers with rates of their own would need a line each.
            "learning_rate": rate_at(state.step) * state.plateau.scale,
            "grad_norm": global_norm(grads, model.net, layout),
            "examples": count,
            "epoch_loss": sums["loss"] / sums["examples"],
            "epoch_top1_error": sums["errors"] / sums["examples"],
        }
        learned = optax.apply_updates(learned, updates)
        params = with_statistics(learned, state.params, moments, model.net)
        # Of the running averages too, because what is evaluated has to belong together.
        average = moving_average(config.train.ema_decay, params, state.average, state.step)
        state = state.replace(step=state.step + 1, params=params, average=average)
        return state.replace(opt_state=opt_state, sums=sums), scalars

    return step


def state_specs(config: ConfigDict, model: AlexNet, layout: Layout) -> TrainState:
    """Returns the partition specs of the state.

    Velocities and averages lie as their parameters, all else is replicated.
    """
    params = param_specs(model.net, layout)
    return TrainState(
        step=REPLICATED,
        params=params,
        average=params if config.train.ema_decay else None,
        opt_state=MomentumState(without_statistics(params)),
        plateau=REPLICATED,
        sums=REPLICATED,
        validated_step=REPLICATED,
    )


def compile_step(
    config: ConfigDict, model: AlexNet, devices: Devices, steps_per_epoch: int, total_steps: int
) -> Step:
    """Returns the step on all devices, jitted; it donates the old state's memory to the new one."""
    per_device = on_devices(model, devices.layout)
    step = make_train_step(config, per_device, steps_per_epoch, total_steps)
    state, batch = state_specs(config, model, devices.layout), parallel.batch_spec(devices.layout)
    inputs = (state, batch, REPLICATED)
    return devices.compile(step, inputs, (state, REPLICATED), donate_argnums=0)
