"""The parts of a run, assembled once: net, devices, step, initial state, input statistics.

Training, the benchmark, the plan and the tests all take these parts from a `Session`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import Dataset, Split
from alexnet_jax.data.pipeline import steps_per_epoch, training_batches
from alexnet_jax.nets.model import AlexNet, build_model
from alexnet_jax.parallel import REPLICATED, Devices, batch_spec, layout_of, make_devices
from alexnet_jax.preprocess import InputStats, input_stats
from alexnet_jax.train.step import (
    Batch,
    Scalars,
    Step,
    TrainState,
    compile_step,
    make_initial_state,
    state_specs,
)


@dataclass(frozen=True)
class Session:
    """The parts of a run. No array but the input statistics is made before `initial_state()`.

    Attributes:
      config: resolved.
      model: the net on a single device.
      devices: the run's devices, with the layout of the work.
      stats: the input statistics, replicated on the devices.
      steps_per_epoch, total_steps: numbers of batches.
      initial_state: makes the state at step 0; `.eval_shape()` gives its shapes and shardings.
      compiled_step: the jitted step, (state, batch, stats) → (state, scalars).
    """

    config: ConfigDict
    model: AlexNet
    devices: Devices
    stats: InputStats
    steps_per_epoch: int
    total_steps: int
    initial_state: Callable[[], TrainState]
    compiled_step: Step

    def with_mean(self, mean: np.ndarray) -> "Session":
        """Returns the session with another mean to subtract from the pixels.

        Args:
          mean: float32 [crop, crop, 3] or [3], 0–255. A mean image of another crop is replaced by
            its mean colour.
        """
        if mean.ndim == 3 and mean.shape != self.stats.mean.shape:
            mean = mean.mean(axis=(0, 1))  # one colour fits every crop
        return replace(self, stats=self.stats._replace(mean=self.devices.replicate(mean)))

    def make_step(self) -> Callable[[TrainState, Batch], tuple[TrainState, Scalars]]:
        """Returns the function (state, batch) → (state, scalars).

        The old state's memory is donated to the new one, so the old state cannot be used again.
        """
        # The statistics are an argument of the compiled step. As constants they would be part of
        # the program, and each data set would compile, and cache, a program of its own.
        run = self.devices.one_at_a_time(self.compiled_step)
        return lambda state, batch: run(state, batch, self.stats)

    def batches(self, split: Split, first_step: int) -> Iterator[Batch]:
        """Yields training batches on the devices without end, from batch number first_step on."""
        data = self.config.data
        batches = training_batches(
            split,
            data.batch_size,
            seed=self.config.seed,
            first_step=first_step,
            device_bytes=data.device_megabytes * 10**6,
            # Each process decodes only its own rows.
            share=self.devices.process_slice(data.batch_size),
            on_bad_record=data.on_bad_record,
        )
        return (self.devices.shard(batch, data.batch_size) for batch in batches)

    def lower(self) -> jax.stages.Lowered:
        """Lowers the step for abstract arguments; nothing is allocated."""
        state = self.initial_state.eval_shape()
        return self.compiled_step.lower(
            state, abstract_batch(self.config, self.devices), self.stats
        )


def open_session(config: ConfigDict, dataset: Dataset) -> Session:
    """Assembles the run that the config describes on this data set."""
    devices = make_devices(layout_of(config.parallel))
    # Placed on the devices once: otherwise every step would send the mean image to them again.
    stats = devices.replicate(input_stats(config.data, dataset))
    return _assemble(config, devices, stats, *lengths(config, len(dataset.splits["train"])))


def abstract_session(config: ConfigDict) -> Session:
    """Assembles a run for `Session.lower` only: no data is read, and the statistics are shapes."""
    devices = make_devices(layout_of(config.parallel))
    crop = config.data.crop_size
    mean = (crop, crop, 3) if config.data.input_mean is None else (3,)  # as in input_stats
    shapes = (mean, (3,), (3, 3))
    stats = InputStats(*(_abstract(devices, shape, "float32", REPLICATED) for shape in shapes))
    # Arbitrary lengths: they are constants of the learning-rate schedule, and change no shape.
    return _assemble(config, devices, stats, steps_per_epoch=1000, total_steps=10_000)


def _assemble(
    config: ConfigDict,
    devices: Devices,
    stats: InputStats,
    steps_per_epoch: int,
    total_steps: int,
) -> Session:
    model = build_model(config)
    specs = state_specs(config, model, devices.layout)
    return Session(
        config=config,
        model=model,
        devices=devices,
        stats=stats,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        initial_state=devices.init(make_initial_state(config, model), specs),
        compiled_step=compile_step(config, model, devices, steps_per_epoch, total_steps),
    )


def lengths(config: ConfigDict, images: int) -> tuple[int, int]:
    """Returns the numbers of steps in an epoch of `images` images and in the whole training."""
    epoch = steps_per_epoch(images, config.data.batch_size)
    # At least one step: a small fraction of an epoch would round to none.
    return epoch, config.train.steps or max(1, round(config.train.epochs * epoch))


def _abstract(
    devices: Devices, shape: tuple[int, ...], dtype: str, spec: jax.P
) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=devices.sharding(spec))


def abstract_batch(config: ConfigDict, devices: Devices) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes, dtypes and shardings of a training batch."""
    size, side, rows = config.data.batch_size, config.data.image_size, batch_spec(devices.layout)
    return {
        "image": _abstract(devices, (size, side, side, 3), "uint8", rows),
        "label": _abstract(devices, (size,), "int32", rows),
        "mask": _abstract(devices, (size,), "float32", rows),
    }
