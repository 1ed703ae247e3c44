"""The flags of explain, checked before anything is loaded."""

from dataclasses import dataclass
from pathlib import Path

from absl import flags

from alexnet_jax.errors import UserError
from alexnet_jax.nets.shapes import layer_shapes
from alexnet_jax.nets.spec import Conv, Net
from alexnet_jax.nets.variants import resolve
from alexnet_jax.predict import pictures
from alexnet_jax.predict.request import SHEET, check_file, check_layer, read_checkpoint, read_labels

METHODS = ("saliency", "occlusion", "gradcam", "deconv")
OF_A_LAYER = ("gradcam", "deconv")  # those of METHODS that look at --layer
UNITS = 24  # shown of a layer unless --units says which


@dataclass(frozen=True)
class Request:
    """A validated request.

    Attributes:
      checkpoint: a workdir, workdir/checkpoints/STEP, or a folder for a model hub.
      images: picture files to explain; empty to draw what excites units.
      methods: some of METHODS.
      layer: name of the layer whose maps or units are looked at; "" if no method needs one.
      units: numbers of the units in the layer; empty with images.
      sheet: the file to write.
      class_names: from --labels; empty = the checkpoint's own.
    """

    checkpoint: Path
    images: list[Path]
    methods: tuple[str, ...]
    layer: str
    units: tuple[int, ...]
    sheet: Path
    class_names: tuple[str, ...]


def check(values: flags.FlagValues) -> Request:
    """Returns the request that the flags describe.

    Raises:
      UserError: a missing or wrong value, no pictures, or a checkpoint that cannot be read.
    """
    for name in ("checkpoint", "sheet"):
        if not values[name].value:
            raise UserError(f"--{name} is missing; see --help")
    _check_combination(values)
    path, config = read_checkpoint(values.checkpoint)
    net = resolve(config.model, config.data.crop_size)
    layer = _layer(values, net)
    images = pictures.find(values.images, "images")
    return Request(
        checkpoint=path,
        images=images,
        methods=tuple(values.methods),
        layer=layer,
        units=() if images else _units(values.units, _output_of(net, layer)[-1], layer),
        sheet=check_file(values, "sheet", SHEET, images),
        class_names=read_labels(values.labels, config.model.num_classes),
    )


def _check_combination(values: flags.FlagValues) -> None:
    if not values.images and not values.layer:
        raise UserError(
            "--images is missing; or give --layer=LAYER alone to draw what excites its units"
        )
    if values.images and values.units:
        raise UserError("--units is for --layer without --images; leave one of them out")
    if values["methods"].present and not values.images:
        raise UserError("--methods is for --images; leave it out")
    for method in values.methods:
        if method not in METHODS:
            raise UserError(f"--methods={method} is unknown; choose from {', '.join(METHODS)}")
    if values.layer and not _needs_layer(values):
        raise UserError(
            f"--layer is for {' and '.join(OF_A_LAYER)}, and --methods has neither; leave it out"
        )


def _needs_layer(values: flags.FlagValues) -> bool:
    return not values.images or bool(set(OF_A_LAYER).intersection(values.methods))


def _layer(values: flags.FlagValues, net: Net) -> str:
    """Returns the name of the layer to look at, by default the last convolution; "" if none is.

    Raises:
      UserError: the net has no such layer, or gradcam has no maps in it.
    """
    if not _needs_layer(values):
        return ""
    layer = values.layer or last_convolution(net)
    check_layer(net, layer, "layer")
    if values.images and "gradcam" in values.methods and len(_output_of(net, layer)) == 1:
        raise UserError(f"--layer={layer} has no maps, which gradcam needs; see --methods")
    return layer


def last_convolution(net: Net) -> str:
    """Returns the name of the last convolution: conv5 in AlexNet.

    Raises:
      UserError: the net has none.
    """
    names = [layer.name for layer in net.layers if isinstance(layer, Conv)]
    if not names:
        raise UserError("this net has no convolution, which --layer is by default; give --layer")
    return names[-1]


def _output_of(net: Net, layer: str) -> tuple[int, ...]:
    shapes = {shape.layer.name: shape.out for shape in layer_shapes(net, net.crop)}
    return shapes[layer]


def _units(given: list[str], features: int, layer: str) -> tuple[int, ...]:
    """Returns the numbers of the units to show; raises UserError for one that does not exist."""
    for unit in given:
        if not unit.isdecimal() or int(unit) >= features:
            raise UserError(
                f"--units={unit} is no unit of {layer}; give numbers from 0 to {features - 1}"
            )
    return tuple(map(int, given)) or tuple(range(min(features, UNITS)))
