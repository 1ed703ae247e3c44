"""TrainState, the step, and the one loop."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from ml_collections import ConfigDict

from alexnet_jax import optim, parallel
from alexnet_jax.data import Dataset, Split
from alexnet_jax.data.pipeline import steps_per_epoch, training_batches
from alexnet_jax.errors import UserError
from alexnet_jax.evaluate import Evaluation, averaged, batches_on_mesh, evaluate, view_probabilities
from alexnet_jax.nets.model import AlexNet, build_model, on_devices
from alexnet_jax.preprocess import Pixels, colour_scale, make_pixels, training_input
from alexnet_jax.runs.checkpoint import Checkpoints, restore_params
from alexnet_jax.runs.finite import check_finite
from alexnet_jax.runs.metrics import Reporter
from alexnet_jax.runs.signals import Stop, Stopped

Batch = dict[str, Any]
Scalars = dict[str, jax.Array]


class TrainState(struct.PyTreeNode):
    """All that a run is, but its parameters' meaning: saved, restored and exact to the bit.

    step, evaluated: int32, batches trained on, and the step last validated (-1 = none yet).
    sums: float32 sums over this epoch's images so far: loss, errors, examples.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    plateau: Any
    sums: Scalars
    evaluated: jax.Array


def make_initial_state(config: ConfigDict, model: AlexNet) -> Callable[[], TrainState]:
    """A function that makes the state at step 0 from config.seed."""
    net, optimizer = model.net, optim.make_optimizer(config.optim, model.net)

    def initial_state() -> TrainState:
        images = jnp.zeros((1, net.crop, net.crop, 3))
        params = model.init(jax.random.key(config.seed), images)["params"]
        return TrainState(
            step=jnp.int32(0),
            params=params,
            opt_state=optimizer.init(params),
            plateau=optim.plateau(config.optim).init(jnp.float32(0)),
            sums={name: jnp.float32(0) for name in ("loss", "errors", "examples")},
            evaluated=jnp.int32(-1),
        )

    return initial_state


def after(known: Any, x: jax.Array) -> jax.Array:
    """x, once these float arrays are known; all NaN if their first numbers do not sum to a number.

    An optimization_barrier would be plainer, but XLA drops it on a CPU before it orders the work.
    """
    first = sum(leaf.ravel()[0] for leaf in jax.tree.leaves(known))
    return jnp.where(jnp.isnan(first), first, x)


def make_gradients(config: ConfigDict, model: AlexNet) -> Callable[..., tuple[Any, Any]]:
    """A function (params, images, batch, dropout_key) → ((loss, errors, examples), gradients).

    The loss is the mean over the batch's real images (paper §5), of which errors counts the wrong
    ones and examples all; these and the gradients are of all devices together.

    The batch is worked through in train.accumulate_steps parts, one after the other. They are
    unrolled: XLA's convolutions are eight times slower in a loop on a CPU (jax issue 12868).
    """
    parts, dtype = config.train.accumulate_steps, config.train.compute_dtype
    layout = model.layout
    own_copies = partial(parallel.own_copies, net=model.net, layout=layout)
    row_devices = layout.data if layout.hybrid else 1  # devices whose rows the logits have

    def gradients(params: Any, images: jax.Array, batch: Batch, key: jax.Array) -> tuple[Any, Any]:
        labels, mask = (parallel.of_logits(batch[x], layout) for x in ("label", "mask"))
        examples = parallel.batch_total(mask.sum(), layout)

        def loss_of(params: Any, images: jax.Array, part: parallel.Part) -> tuple[jax.Array, ...]:
            params, x = jax.tree.map(
                lambda x: x.astype(dtype), (params, parallel.part_rows(images, part))
            )
            wanted, real = (parallel.part_rows(x, part, row_devices) for x in (labels, mask))
            rngs = {"dropout": key}
            logits, _ = model.apply({"params": params}, x, train=True, rngs=rngs, part=part)
            logits = logits.astype(jnp.float32)
            losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, wanted)
            errors = ((logits.argmax(-1) != wanted) * real).sum()
            return (losses * real).sum() / examples, errors

        gradients_of = jax.value_and_grad(loss_of, has_aux=True)
        copies, over_devices = jax.vjp(own_copies, params)
        sums = gradients_of(copies, images, (0, parts))
        for i in range(1, parts):
            found = gradients_of(copies, after(sums, images), (i, parts))
            sums = jax.tree.map(jnp.add, sums, found)
        (loss, errors), grads = sums
        loss, errors = (parallel.batch_total(x, layout) for x in (loss, errors))
        return (loss, errors, examples), over_devices(grads)[0]

    return gradients


def make_train_step(
    config: ConfigDict, model: AlexNet, epoch_steps: int, total_steps: int
) -> Callable[[TrainState, Batch, Pixels], tuple[TrainState, Scalars]]:
    """One step: augment, forward, backward, update. Pure; jit it and donate the state.

    The batch holds uint8 images [B, S, S, 3], int32 labels [B] and a float32 mask [B], 0 for
    padding. All randomness is a function of (config.seed, step, layer, place in the batch). With a
    model on several devices (`on_devices`) this is what one of them does, with its part of the
    state and the batch.
    """
    optimizer, layout = optim.make_optimizer(config.optim, model.net), model.layout
    gradients = make_gradients(config, model)
    rates_at = optim.rates(config.optim, model.net, epoch_steps, total_steps)
    rate_at = optim.schedule(config.optim, epoch_steps, total_steps)
    colour_at = colour_scale(config.data, epoch_steps)

    def added(state: TrainState, new: Scalars) -> Scalars:
        """The epoch's sums with those of this step."""
        first = state.step % epoch_steps == 0
        return {name: jnp.where(first, 0, state.sums[name]) + new[name] for name in new}

    def step(state: TrainState, batch: Batch, pixels: Pixels) -> tuple[TrainState, Scalars]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        input_key, dropout_key = jax.random.split(key)
        colour = colour_at(state.step)
        images = training_input(batch["image"], input_key, config.data, pixels, colour, layout)
        (loss, errors, examples), grads = gradients(state.params, images, batch, dropout_key)
        rates = rates_at(state.step, state.plateau.scale)
        steps, opt_state = optimizer.update(grads, state.opt_state, state.params, rates=rates)
        sums = added(state, {"loss": loss * examples, "errors": errors, "examples": examples})
        scalars = {
            "loss": loss,
            "top1_error": errors / examples,
            "learning_rate": rate_at(state.step) * state.plateau.scale,
            "grad_norm": parallel.global_norm(grads, model.net, layout),
            "examples": examples,
            "epoch_loss": sums["loss"] / sums["examples"],
            "epoch_top1_error": sums["errors"] / sums["examples"],
        }
        params = optax.apply_updates(state.params, steps)
        state = state.replace(step=state.step + 1, params=params, opt_state=opt_state, sums=sums)
        return state, scalars

    return step


def state_specs(model: AlexNet, layout: parallel.Layout) -> TrainState:
    """Where the state lies on the mesh: velocities with their parameters, the rest everywhere."""
    params, everywhere = parallel.param_specs(model.net, layout), parallel.EVERYWHERE
    return TrainState(
        step=everywhere,
        params=params,
        opt_state=optim.Velocity(params),
        plateau=everywhere,
        sums=everywhere,
        evaluated=everywhere,
    )


def compiled_step(
    config: ConfigDict, model: AlexNet, mesh: parallel.Mesh, epoch_steps: int, total_steps: int
) -> Callable[[TrainState, Batch, Pixels], tuple[TrainState, Scalars]]:
    """The step on all devices of the mesh; it takes the state's memory for the new one."""
    layout = parallel.layout_of(config.parallel)
    step = make_train_step(config, on_devices(model, layout), epoch_steps, total_steps)
    state, everywhere = state_specs(model, layout), parallel.EVERYWHERE
    inputs = (state, parallel.batch_spec(layout), everywhere)
    return parallel.on_mesh(step, mesh, inputs, (state, everywhere), donate_argnums=0)


def lengths(config: ConfigDict, images: int) -> tuple[int, int]:
    """Steps in an epoch and in the whole training."""
    epoch = steps_per_epoch(images, config.data.batch_size)
    return epoch, config.train.steps or max(1, round(config.train.epochs * epoch))


def make_validation(
    config: ConfigDict,
    dataset: Dataset,
    model: AlexNet,
    mesh: parallel.Mesh,
    pixels: Pixels,
    stop: Stop,
) -> Callable[[Any], Evaluation]:
    """A function of params that evaluates the validation split; it raises Stopped if told to."""
    layout, split = parallel.layout_of(config.parallel), dataset.splits["val"]
    probabilities = view_probabilities(model, mesh, layout)

    def validation(params: Any) -> Evaluation:
        member = averaged(probabilities, params, pixels, config.eval.views)
        batches = batches_on_mesh(config, split, mesh)
        if not parallel.is_one_of_several():  # they have to stop at the same place
            batches = stop.until(batches)
        return evaluate([member], batches, len(split), config.eval.views)

    return validation


def make_after_validation(config: ConfigDict) -> Callable[[TrainState, float], TrainState]:
    """A function that notes a validation and its error; it drops the rate if the schedule says so.

    Compiled, for optax's condition would else be compiled at every validation, and kept.
    """
    update = jax.jit(optim.plateau(config.optim).update)

    def after_validation(state: TrainState, error: float) -> TrainState:
        plateau = state.plateau
        if config.optim.schedule == "plateau":
            _, plateau = update((), plateau, value=error)
        return state.replace(plateau=plateau, evaluated=state.step + 0)

    return after_validation


def begin(
    config: ConfigDict,
    model: AlexNet,
    mesh: parallel.Mesh,
    checkpoints: Checkpoints,
    checksum: str,
) -> tuple[TrainState, dict[str, Any]]:
    """The state and the notes to go on from: the workdir's newest checkpoint, init_from, the seed.

    Raises UserError if the data set is not the one that the run began with.
    """
    specs = state_specs(model, parallel.layout_of(config.parallel))
    initial_state = parallel.born_on(make_initial_state(config, model), mesh, specs)
    abstract = initial_state.eval_shape()
    restored = checkpoints.restore(abstract.params, abstract.replace(params=None))
    if restored is not None:
        if restored.meta["data"] != checksum:
            raise UserError(
                f"the data set {config.data.name!r} is not the one that this run began with; "
                "prepare it as it was, or train in another --workdir"
            )
        return restored.training.replace(params=restored.params), restored.meta
    state = initial_state()
    if config.init_from:
        state = state.replace(params=restore_params(Path(config.init_from), abstract.params).params)
    return state, {"seconds": 0.0, "learnt": False, "data": checksum}


def save_state(
    checkpoints: Checkpoints,
    reporter: Reporter,
    step: int,
    state: TrainState,
    pixels: Pixels,
    notes: dict[str, Any],
    error: float | None,
) -> None:
    """Saves the state if it is finite, once metrics.jsonl is on the disk up to its step."""
    check_finite(step, (state.params, state.opt_state))
    notes["seconds"] = reporter.sync()
    if not reporter.behind:
        training, mean = state.replace(params=None), np.asarray(pixels.mean)
        checkpoints.save(step, state.params, training, mean, notes, error)


def training_batches_on_mesh(
    config: ConfigDict, split: Split, mesh: parallel.Mesh, first_step: int
) -> Iterator[Batch]:
    """Endless training batches from a step on, each laid on the mesh."""
    layout, size = parallel.layout_of(config.parallel), config.data.batch_size
    batches = training_batches(
        split,
        size,
        seed=config.seed,
        first_step=first_step,
        device_bytes=config.data.device_megabytes * 10**6,
        share=parallel.share(mesh, layout, size),
        on_bad_record=config.data.on_bad_record,
    )
    return (parallel.put_batch(batch, mesh, layout, size) for batch in batches)


def is_multiple(step: int, every: int) -> bool:
    """True at every `every` steps but the start; never if `every` is 0."""
    return step > 0 and every > 0 and step % every == 0


def train(config: ConfigDict, dataset: Dataset, workdir: Path, stop: Stop) -> int:
    """Trains until the end, or until told to stop; saves that state and returns its step.

    The order is: restore → evaluate → save → next batch → step → write the previous step's
    metrics. A checkpoint is saved before the next batch is taken, so that its step is the place in
    the data; a step's metrics are fetched when the next step is under way, so that a GPU never
    waits for the host (a CPU takes one step at a time, and its metrics are written at once).
    """
    split = dataset.splits["train"]
    epoch_steps, total = lengths(config, len(split))
    model = build_model(config)
    mesh = parallel.make_mesh(parallel.layout_of(config.parallel))
    pixels = parallel.everywhere(make_pixels(config.data, dataset), mesh)
    validation = None
    if "val" in dataset.splits:
        validation = make_validation(config, dataset, model, mesh, pixels, stop)
    on_full_disk = config.checkpoint.on_full_disk
    with Checkpoints(workdir, config.checkpoint.keep, on_full_disk) as checkpoints:
        state, notes = begin(config, model, mesh, checkpoints, dataset.checksum)
        step, evaluated = int(state.step), int(state.evaluated)
        ended = notes["learnt"] or step >= total
        if ended and (evaluated == step or validation is None):
            print(f"{workdir} is finished at step {step}; evaluate it with --mode=eval")
            return step
        train_step = compiled_step(config, model, mesh, epoch_steps, total)
        train_step = parallel.one_at_a_time(train_step, mesh)
        after_validation = make_after_validation(config)
        batches = training_batches_on_mesh(config, split, mesh, step)
        begun = parallel.reporting_folder(workdir), step, evaluated, notes["seconds"]
        with Reporter(*begun, epoch_steps, total, config.train, on_full_disk) as reporter:
            asked = parallel.highest(stop.read, mesh)
            while True:
                checkpoints.poll()
                stopping = stop.heed(asked())  # asked once: what is saved was flushed
                save = is_multiple(step, config.checkpoint.every_steps)
                if step >= total or is_multiple(step, epoch_steps) or save or stopping:
                    reporter.flush()
                notes["learnt"] = notes["learnt"] or reporter.learnt(step)
                ended = step >= total or notes["learnt"]
                boundary = ended or is_multiple(step, epoch_steps * config.eval.every_epochs)
                validated = None
                if boundary and validation and evaluated != step:
                    try:
                        validated, evaluated = validation(state.params), step
                        state = after_validation(state, validated.top1_error)
                        reporter.evaluation(step, validated.values("val"))
                    except Stopped:
                        stopping = True
                if boundary or save or stopping:
                    error = validated.top1_error if validated else None
                    save_state(checkpoints, reporter, step, state, pixels, notes, error)
                if ended or stopping:
                    return step
                batch = next(batches)
                asked = parallel.highest(stop.read, mesh)
                state, scalars = train_step(state, batch, pixels)
                step += 1
                reporter.push(step, scalars)
                if parallel.on_cpu(mesh):  # the step is done
                    reporter.flush()
