"""Facts of a run that are saved beside each checkpoint, and the checks that compare them.

The facts are the data set and the random generator that the parameters belong to. Training,
evaluation, `init_from` and `predict` compare them with those that they are about to use.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
from ml_collections import ConfigDict

from alexnet_jax.data import Dataset
from alexnet_jax.disk import checksums
from alexnet_jax.disk.durable import write_text
from alexnet_jax.errors import UserError
from alexnet_jax.parallel import Devices
from alexnet_jax.runs.workdir import find_good, step_folder, workdir_of

FILE = "run.json"  # in the folder of a step
VERSION = 2  # version 1 was no file of its own and had no class names


@dataclass(frozen=True)
class DataFacts:
    """The identity of a data set.

    Attributes:
      name: config.data.name.
      checksum: hexadecimal SHA-256 that changes with any image, label or class name; empty if it
        is not known, as of a net that comes from an exported folder.
      class_names: in the order of the net's outputs.
      image_size: side of the stored images in pixels.
      sizes: images in each split; empty if they are not known.
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
      random_generator: name of the implementation that jax.random.key used.
      data: the data set; None for weights that were converted.
    """

    seconds: float
    random_generator: str
    data: DataFacts | None


def write_record(folder: Path, record: RunRecord) -> None:
    """Writes the record into the folder of a step."""
    write_text(folder / FILE, json.dumps({"version": VERSION, **asdict(record)}, indent=1) + "\n")


def record_in(folder: Path) -> RunRecord:
    """Reads the record in the folder of a step; raises UserError if its version is another."""
    file = folder / FILE
    values = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if values.get("version") != VERSION:
        raise UserError(
            f"the checkpoint {folder} was written by another version of alexnet_jax; evaluate or "
            "continue it with that version, or train again in another --workdir"
        )
    data = values["data"]
    if data is not None:
        # JSON has no tuples, and a list would not equal the tuple of an opened data set.
        data = DataFacts(**{**data, "class_names": tuple(data["class_names"])})
    return RunRecord(values["seconds"], values["random_generator"], data)


def read_record(path: Path) -> RunRecord:
    """Reads the record of a checkpoint named as workdir or workdir/checkpoints/STEP.

    Raises:
      UserError: there is no intact checkpoint, or it is of another version.
    """
    return record_in(step_folder(workdir_of(path), find_good(path)[0]))


def facts_of(dataset: Dataset) -> DataFacts:
    """Returns the identity of an opened data set."""
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    return DataFacts(
        dataset.name, dataset.checksum, tuple(dataset.class_names), dataset.image_size, sizes
    )


def random_generator() -> str:
    """Returns the name of the implementation that jax.random.key uses."""
    name = str(jax.config.jax_default_prng_impl)
    # Threefry has two forms with different numbers, and jax has changed which one is the default.
    if name == "threefry2x32" and not jax.config.jax_threefry_partitionable:
        name += ", not partitionable"
    offset = jax.config.jax_random_seed_offset  # jax adds it to every seed
    return f"{name}, seed offset {offset}" if offset else name


def check_agreement(devices: Devices, config: ConfigDict, facts: DataFacts) -> None:
    """Raises UserError unless all processes of a run have its settings, data and random numbers.

    Each would otherwise compute with its own, and the parameters on their devices would differ.
    """
    settings = config.copy_and_resolve_references()
    settings.data.dir = settings.init_from = ""  # a machine may have them in another place
    mine = json.dumps([settings.to_dict(), asdict(facts), random_generator()], sort_keys=True)
    if not devices.agree(mine):
        raise UserError(
            "the processes of this run differ in their settings, their data or their random "
            "generator; start each with the same flags, data set and variables"
        )


def check_same_checkpoints(devices: Devices, folders: Iterable[Path]) -> None:
    """Raises UserError unless all processes of a run see the same checkpoints in these folders.

    Otherwise some would wait for ever for others that restore nothing, or the parameters on their
    devices would differ.

    Args:
      devices: of the run.
      folders: of saved steps; the folder of the workdir may have another path on each machine.
    """
    # The checksums of a step's files stand for their content.
    found = [(folder.name, _recorded_checksums(folder)) for folder in folders]
    if not devices.agree(json.dumps(found)):
        raise UserError(
            "the processes of this run find different checkpoints; give each the same workdir or "
            "checkpoint, on a drive that they share"
        )


def _recorded_checksums(folder: Path) -> str:
    file = folder / checksums.RECORD
    # A damaged file may hold anything.
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def data_difference(recorded: DataFacts, found: DataFacts, *names: str) -> str:
    """Returns a phrase on the first of the named facts that differs; "" if all are equal.

    Args:
      recorded: of the data set that a run began with.
      found: of the data set that was opened now.
      *names: attributes of DataFacts, in the order in which they are compared.
    """
    for name in names:
        ours, theirs = getattr(found, name), getattr(recorded, name)
        if ours == theirs or not theirs:  # an exported folder records only a part
            continue
        if name == "class_names":
            return _class_difference(theirs, ours)
        if name == "checksum":
            return "its content has changed"
        return f"{name} is {ours!r}, not {theirs!r}"
    return ""


def _class_difference(theirs: tuple[str, ...], ours: tuple[str, ...]) -> str:
    if len(ours) != len(theirs):
        return f"it has {len(ours)} classes, not {len(theirs)}"
    first = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    return f"class {first} is {ours[first]!r}, not {theirs[first]!r}"


def check_resumable(record: RunRecord, facts: DataFacts) -> None:
    """Raises UserError unless a resumed run would see the same data and random numbers.

    Args:
      record: of the checkpoint that is resumed; without data facts, as of converted weights, only
        the random generator is compared.
      facts: of the opened data set.
    """
    generator = random_generator()
    if record.random_generator != generator:
        raise UserError(
            f"this run began with the random generator {record.random_generator}, now it is "
            f"{generator}; set JAX_DEFAULT_PRNG_IMPL, JAX_THREEFRY_PARTITIONABLE and "
            "JAX_RANDOM_SEED_OFFSET as they were, or train in another --workdir"
        )
    if record.data is None:
        return
    # Only the first difference is reported: the checksum is last, because it explains least.
    names = ("name", "image_size", "class_names", "sizes", "checksum")
    difference = data_difference(record.data, facts, *names)
    if difference:
        raise UserError(
            f"the data set {facts.name!r} is not the one that this run began with ({difference}); "
            "prepare it as it was, or train in another --workdir"
        )


def check_evaluable(path: Path, record: RunRecord, facts: DataFacts, split: str) -> str:
    """Compares a checkpoint's record with the data set that it is to be evaluated on.

    Args:
      path: names the checkpoint in the message.
      record: of the checkpoint. Converted weights have no data facts: nothing is compared.
      facts: of the opened data set.
      split: "val" must be the one that the run held out, because other images may have been
        trained on.

    Returns:
      A line for the user if the data set has the run's name but other content; empty otherwise.

    Raises:
      UserError: other classes, other sizes of image, or another validation split.
    """
    if record.data is None:
        return ""
    same_name = record.data.name == facts.name
    difference = data_difference(record.data, facts, "class_names")
    if same_name:
        difference = difference or data_difference(record.data, facts, "image_size")
    if difference:
        raise UserError(
            f"checkpoint {path} was trained on other data than {facts.name!r} ({difference}); "
            "give the data set that it was trained on, or one prepared the same way"
        )
    difference = same_name and data_difference(record.data, facts, "sizes", "checksum")
    if difference and split == "val":
        raise UserError(
            f"checkpoint {path} was trained on another {facts.name!r} ({difference}), so images "
            "of this validation split may have been trained on; evaluate its own, or the test split"
        )
    return f"{facts.name!r} is not the data set of {path}: {difference}" if difference else ""
