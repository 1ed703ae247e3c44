"""Facts of a run that its checkpoints carry beside the state, and their one comparison."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax

from alexnet_jax.data import Dataset
from alexnet_jax.errors import UserError

VERSION = 2  # 1 had no class names


@dataclass(frozen=True)
class DataFacts:
    """The identity of a data set.

    Attributes:
      name: config.data.name.
      checksum: hexadecimal SHA-256 that changes with any image, label or class name.
      class_names: in the order of the net's outputs.
      image_size: side of the stored images in pixels.
      sizes: images in each split.
    """

    name: str
    checksum: str
    class_names: tuple[str, ...]
    image_size: int
    sizes: dict[str, int]


@dataclass(frozen=True)
class RunRecord:
    """The facts that a checkpoint carries beside the state.

    Attributes:
      seconds: of training so far, over all restarts.
      random_generator: JAX's default implementation, such as threefry2x32.
      data: the data set; None for weights that were converted.
    """

    seconds: float
    random_generator: str
    data: DataFacts | None

    def to_json(self) -> dict[str, Any]:
        """Returns the record as JSON values."""
        return {"version": VERSION, **asdict(self)}


def from_json(values: Mapping[str, Any]) -> RunRecord:
    """Returns the record of these JSON values; raises UserError for another version's."""
    if values.get("version") != VERSION:
        raise UserError(
            "the checkpoint was written by another version of alexnet_jax; train again in another "
            "--workdir, or take its parameters with --config.init_from in that version"
        )
    data = values["data"]
    if data is not None:
        data = DataFacts(**{**data, "class_names": tuple(data["class_names"])})
    return RunRecord(values["seconds"], values["random_generator"], data)


def facts_of(dataset: Dataset) -> DataFacts:
    """Returns the identity of an opened data set."""
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    return DataFacts(
        dataset.name, dataset.checksum, tuple(dataset.class_names), dataset.image_size, sizes
    )


def random_generator() -> str:
    """Returns the name of the implementation that jax.random.key uses."""
    return str(jax.config.jax_default_prng_impl)


def data_difference(recorded: DataFacts, found: DataFacts, keys: tuple[str, ...]) -> str:
    """Returns the first of these facts in which two data sets differ; empty if there is none."""
    for key in keys:
        ours, theirs = getattr(found, key), getattr(recorded, key)
        if ours != theirs:
            if key == "class_names":
                return f"class names are {_differing(ours, theirs)}"
            return f"{key} is {ours!r}, not {theirs!r}"
    return ""


def _differing(ours: tuple[str, ...], theirs: tuple[str, ...]) -> str:
    """Returns the first class names that differ, for a person."""
    if len(ours) != len(theirs):
        return f"{len(ours)}, not {len(theirs)}"
    first = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    return f"{ours[first]!r} for class {first}, not {theirs[first]!r}"


def check_resumable(record: RunRecord, dataset: Dataset) -> None:
    """Raises UserError unless a run can go on, to the bit, on this data set and generator."""
    generator = random_generator()
    if record.random_generator != generator:
        raise UserError(
            f"this run began with JAX_DEFAULT_PRNG_IMPL={record.random_generator}, now it is "
            f"{generator}; set it as it was, or train in another --workdir"
        )
    keys = ("name", "image_size", "class_names", "sizes", "checksum")
    difference = record.data and data_difference(record.data, facts_of(dataset), keys)
    if difference:
        raise UserError(
            f"the data set {dataset.name!r} is not the one that this run began with "
            f"({difference}); prepare it as it was, or train in another --workdir"
        )
