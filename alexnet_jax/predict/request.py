"""The flags of predict, checked before anything is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from alexnet_jax.cli.checks import check_writable
from alexnet_jax.errors import UserError
from alexnet_jax.nets.shapes import layer_shapes
from alexnet_jax.nets.spec import Net
from alexnet_jax.nets.variants import resolve, weighted_layers
from alexnet_jax.predict import pictures
from alexnet_jax.runs.workdir import check_restorable, read_config
from alexnet_jax.weights.hub import is_hub

TABLES, FEATURES, SHEET = (".jsonl", ".csv"), (".npz",), (".png", ".svg")


@dataclass(frozen=True)
class Request:
    """A validated request.

    Attributes:
      checkpoint: a workdir, workdir/checkpoints/STEP, or a folder for a model hub.
      images, gallery: picture files.
      neighbours: number of neighbours of each picture; 0 = none are asked for.
      layer: name of the layer whose output is written or compared; "" to classify.
      top: number of classes to show of each picture.
      views: 1 or 10.
      batch_size: pictures that the net works on at once.
      output, sheet: files to write; None = none.
      class_names: from --labels; () = the checkpoint's own.
    """

    checkpoint: Path
    images: list[Path]
    gallery: list[Path]
    neighbours: int
    layer: str
    top: int
    views: int
    batch_size: int
    output: Path | None
    sheet: Path | None
    class_names: tuple[str, ...]


def check(values: flags.FlagValues) -> Request:
    """Returns the request that the flags describe.

    Raises:
      UserError: a missing or wrong value, flags that exclude each other, no pictures, or a
        checkpoint that cannot be read.
    """
    for name in ("checkpoint", "images"):
        if not values[name].value:
            raise UserError(f"--{name} is missing; see --help")
    _check_numbers(values)
    _check_combination(values)
    path, config = read_checkpoint(values.checkpoint)
    net = resolve(config.model, config.data.crop_size)
    if values.features:
        check_layer(net, values.features, "features")
    images = pictures.find(values.images, "images")
    gallery = pictures.find(values.gallery, "gallery")
    return Request(
        checkpoint=path,
        images=images,
        gallery=gallery,
        neighbours=values.neighbours,
        layer=values.features or (last_hidden_layer(net) if values.neighbours else ""),
        top=min(values.top, config.model.num_classes),  # the default is 5, a net may have 2
        views=values.views,
        batch_size=values.batch_size,
        output=check_file(values, "output", _endings(values)),
        sheet=check_file(values, "sheet", SHEET, [*images, *gallery]),
        class_names=read_labels(values.labels, config.model.num_classes),
    )


def read_checkpoint(name: str) -> tuple[Path, ConfigDict]:
    """Returns the path and config of the trained net that --checkpoint names.

    Raises:
      UserError: there is none, or it is damaged.
    """
    path = Path(name).expanduser()
    if not is_hub(path):
        check_restorable(path)
    return path, read_config(path)


def _check_numbers(values: flags.FlagValues) -> None:
    for name, least in (("top", 1), ("batch_size", 1), ("neighbours", 0)):
        if values[name].value < least:
            raise UserError(f"--{name}={values[name].value} has to be {least} or more")
    if values.views not in (1, 10):
        raise UserError(f"--views={values.views} has to be 1 (the centre) or 10 (paper §4.1)")


def _check_combination(values: flags.FlagValues) -> None:
    if bool(values.neighbours) != bool(values.gallery):
        raise UserError(
            "--neighbours=K and --gallery=PATH go together: the number of neighbours, and the "
            "pictures that they are chosen from"
        )
    if values.views == 10 and (values.features or values.neighbours):
        raise UserError("--views=10 is for classes; features are those of the centre: leave it out")
    for name, other in (("top", "neighbours"), ("labels", "neighbours"), ("top", "features")):
        if values[name].present and values[other].value:
            raise UserError(f"--{name} is for classes, not for {other}; leave it out")
    if values.features and not values.neighbours:
        if not values.output:
            raise UserError("--features needs --output=FILE.npz to write them to")
        if values.sheet:
            raise UserError("--sheet shows classes or neighbours, not features; leave it out")


def _endings(values: flags.FlagValues) -> tuple[str, ...]:
    return FEATURES if values.features and not values.neighbours else TABLES


def check_file(
    values: flags.FlagValues, flag: str, endings: tuple[str, ...], inputs: Sequence[Path] = ()
) -> Path | None:
    """Returns the file that a flag names, or None if the flag is empty.

    Args:
      values: the flags.
      flag: name of the flag.
      endings: those that the file may have, such as .png.
      inputs: files that are read, and must not be overwritten.

    Raises:
      UserError: another ending, a file that cannot be written, or one of the inputs.
    """
    if not values[flag].value:
        return None
    path = Path(values[flag].value)
    if path.suffix not in endings:
        raise UserError(f"--{flag}={path} has to end in {' or '.join(endings)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError(f"--{flag}={path}: give a file in a folder that exists")
    check_writable(path.parent, flag)
    if path.exists() and path.resolve() in {file.resolve() for file in inputs}:
        raise UserError(f"--{flag}={path} is one of the pictures to read; give another name")
    return path


def check_layer(net: Net, layer: str, flag: str) -> None:
    """Raises UserError unless the net has a layer of this name."""
    names = [shape.layer.name for shape in layer_shapes(net, net.crop)]
    if layer not in names:
        raise UserError(f"--{flag}={layer} is no layer of this net; choose from {', '.join(names)}")


def last_hidden_layer(net: Net) -> str:
    """Returns the last layer with weights before the classifier: fc7 in AlexNet (paper §6.1)."""
    *_, layer, _ = weighted_layers(net)  # the last one is the classifier
    return layer


def read_labels(path: str, classes: int) -> tuple[str, ...]:
    """Returns the class names in a text file, one a line; () if `path` is "".

    Args:
      path: of the file.
      classes: number of classes of the net.

    Raises:
      UserError: the file cannot be read, or has another number of lines.
    """
    if not path:
        return ()
    try:
        # Windows begins a text file with a mark, which would be part of the first name.
        names = tuple(Path(path).read_text(encoding="utf-8-sig").splitlines())
    except (OSError, ValueError) as error:
        raise UserError(f"--labels={path} cannot be read ({error}); give a text file") from error
    if len(names) != classes:
        raise UserError(
            f"--labels={path} has {len(names)} lines, but the net has {classes} classes; give one "
            "name a line"
        )
    return names
