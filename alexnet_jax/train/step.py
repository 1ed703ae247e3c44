"""The training state, and the training step: a pure function from one state to the next."""

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
      params: float32, {layer: {"kernel", "bias"}}; of BatchNorm also the running averages.
      average: moving average of the parameters, used in evaluation; None if train.ema_decay is 0.
      opt_state: `MomentumState`, with a velocity for each parameter that gradients move.
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
        # Only the parameters are used, so XLA removes the forward pass on these images.
        images = jnp.zeros((1, net.crop, net.crop, 3))
        params = model.init(jax.random.key(config.seed), images)["params"]
        return TrainState(
            step=jnp.int32(0),
            params=params,
            # A copy: the step donates its state, and no buffer can be donated twice.
            average=jax.tree.map(jnp.copy, params) if config.train.ema_decay else None,
            opt_state=optimizer.init(without_statistics(params)),
            # `init` takes parameters, but this transform reads only their dtype.
            plateau=plateau(config.optim).init(jnp.float32(0)),
            # float32 counts exactly up to 2²⁴ images, thirteen times an epoch of ImageNet.
            sums={name: jnp.float32(0) for name in ("loss", "errors", "examples")},
            validated_step=jnp.int32(-1),
        )

    return initial_state


def evaluated_params(state: TrainState) -> Any:
    """Returns the parameters to evaluate: the moving average, or without one the newest."""
    return state.params if state.average is None else state.average


def with_params(state: TrainState, params: Any) -> TrainState:
    """Returns the state with other parameters, from which the moving average starts too."""
    # A copy: both are donated, and no buffer can be donated twice.
    average = None if state.average is None else jax.tree.map(jnp.copy, params)
    return state.replace(params=params, average=average)


def swap_average(state: TrainState) -> TrainState:
    """Returns the state with parameters and moving average exchanged; unchanged without average.

    Checkpoints hold the exchanged state: a program that reads only their `params` then gets the
    parameters that were evaluated.
    """
    return state.replace(
        params=evaluated_params(state), average=None if state.average is None else state.params
    )


def computed_after(known: Any, x: jax.Array) -> jax.Array:
    """Returns x unchanged, but makes XLA compute the float arrays `known` first.

    A NaN in the first elements of `known` becomes a NaN in x.
    """
    # A data dependency that XLA cannot simplify away. An optimization_barrier would be plainer, but
    # on a CPU XLA drops it before it orders the work.
    first = sum(leaf.ravel()[0] for leaf in jax.tree.leaves(known))
    return jnp.where(jnp.isnan(first), first, x)


def make_gradients(config: ConfigDict, model: AlexNet) -> Callable[..., tuple[Any, Any, Any]]:
    """Returns the function (params, images, batch, key) → (sums, moments, gradients).

    params: this device's, without running averages.
    images: float32 [n, crop, crop, 3], this device's, augmented.
    batch: this device's rows of the labels and of the mask.
    key: decides which units are dropped.

    sums: (loss, errors, examples), each float32 []: the mean loss over the real images, the number
      of misclassified ones, and the number of all of them.
    moments: as in `make_loss`.
    gradients: float32, of the shapes of params.

    The results are those of the whole batch, on every device. The batch is computed in
    train.accumulate_steps parts, one after the other.
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
        # Unrolled: in a loop of XLA its convolutions are eight times slower on a CPU (jax issue
        # 12868).
        for i in range(1, parts):
            # The parts have to wait for each other: XLA would hold the activations of several.
            part = part_of(computed_after(sums, images), (i, parts))
            sums = jax.tree.map(jnp.add, sums, gradients_of(copies, part, count, key))
        (loss, (errors, moments)), grads = sums
        loss, errors = (parallel.psum_batch(x, layout) for x in (loss, errors))
        return (loss, errors, count), moments, sum_over_devices(grads)[0]

    return gradients


def with_statistics(learned: Any, params: Any, moments: Any, net: Net) -> Any:
    """Returns the learned parameters with the new running averages of batch normalisation.

    An average a becomes decay · a + (1 − decay) · moment.

    Args:
      learned: the new parameters, without running averages.
      params: the old parameters, with the old running averages.
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
    """Returns the sums over the images of the epoch so far, including those of this step.

    Args:
      state: before the step.
      new: the sums over this step's images, float32 [].
      steps_per_epoch: number of batches in an epoch.
    """
    # Reset inside the step, so that the host does not have to change the state between epochs.
    first = state.step % steps_per_epoch == 0
    return {name: jnp.where(first, 0, state.sums[name]) + new[name] for name in new}


def make_train_step(
    config: ConfigDict, model: AlexNet, steps_per_epoch: int, total_steps: int
) -> Step:
    """Returns the training step, a pure function: augment, forward, backward, update.

    A batch holds `image` uint8 [B, S, S, 3], `label` int32 [B] and `mask` float32 [B], 0 for
    padding. All randomness is a function of (config.seed, step, layer, position in the batch).
    With a model on several devices (`on_devices`) the step is that of one device, with its shards
    of the state and of the batch.

    Args:
      config: resolved.
      model: the net on one device of the layout.
      steps_per_epoch, total_steps: numbers of batches, for the schedules.
    """
    layout = model.layout
    optimizer = make_optimizer(config.optim, model.net, layout)
    gradients = make_gradients(config, model)
    rates_at = learning_rates(config.optim, model.net, steps_per_epoch, total_steps)
    rate_at = schedule(config.optim, steps_per_epoch, total_steps)
    colour_at = colour_scale(config.data, steps_per_epoch)

    def step(state: TrainState, batch: Batch, stats: InputStats) -> tuple[TrainState, Scalars]:
        # The key follows from the step, so a resumed run draws what an uninterrupted one would.
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        augment_key, dropout_key = jax.random.split(key)
        examples = parallel.example_indices(len(batch["image"]), layout)
        # Outside of the gradients and of the parts, because nothing in it is learned.
        images = augment_batch(
            batch["image"], augment_key, examples, config.data, stats, colour_at(state.step)
        )
        # The optimizer sees no running averages: they have no gradient, velocity or decay.
        learned = without_statistics(state.params)
        (loss, errors, count), moments, grads = gradients(learned, images, batch, dropout_key)
        rates = rates_at(state.step, state.plateau.scale)
        updates, opt_state = optimizer.update(grads, state.opt_state, learned, rates=rates)
        new = {"loss": loss * count, "errors": errors, "examples": count}
        sums = epoch_sums(state, new, steps_per_epoch)
        scalars = {
            "loss": loss,
            "top1_error": errors / count,
            # The weights' common rate: layers with rates of their own are not reported.
            "learning_rate": rate_at(state.step) * state.plateau.scale,
            "grad_norm": global_norm(grads, model.net, layout),
            "examples": count,
            "epoch_loss": sums["loss"] / sums["examples"],
            "epoch_top1_error": sums["errors"] / sums["examples"],
        }
        learned = optax.apply_updates(learned, updates)
        params = with_statistics(learned, state.params, moments, model.net)
        # With the running averages of BatchNorm, so that averaged weights have matching moments.
        average = moving_average(config.train.ema_decay, params, state.average, state.step)
        state = state.replace(step=state.step + 1, params=params, average=average)
        return state.replace(opt_state=opt_state, sums=sums), scalars

    return step


def state_specs(config: ConfigDict, model: AlexNet, layout: Layout) -> TrainState:
    """Returns the partition specs of the state.

    Velocities and averages have the specs of their parameters. Everything else is replicated.
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
    """Returns the step on all devices, jitted: (state, batch, stats) → (state, scalars).

    The old state's memory is donated to the new one.
    """
    per_device = on_devices(model, devices.layout)
    step = make_train_step(config, per_device, steps_per_epoch, total_steps)
    state, batch = state_specs(config, model, devices.layout), parallel.batch_spec(devices.layout)
    inputs = (state, batch, REPLICATED)
    return devices.compile(step, inputs, (state, REPLICATED), donate_argnums=0)
