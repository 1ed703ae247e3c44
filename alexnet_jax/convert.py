"""Turns other people's weights into a checkpoint: Caffe's two AlexNets, and torchvision's.

    python -m alexnet_jax.convert --from=bvlc_alexnet.caffemodel --layout=caffe \\
        --workdir=runs/bvlc_alexnet
    python -m alexnet_jax.convert --from=alexnet.pth --layout=torchvision --workdir=runs/torchvision

--from is a .pth, .caffemodel, .npz or .safetensors; nothing in it is run. In the last two, arrays
have the names of the layout: conv1/0 (weights) and conv1/1 (biases) for Caffe's, features.0.weight
and features.0.bias for torchvision's. --layout=caffe takes CaffeNet too: --model=caffenet.

The workdir is then like a run's at step 0: evaluate it with alexnet_jax.main --mode=eval
--checkpoint=DIR, train on from it with --config.init_from=DIR, load it with alexnet_jax.load(DIR).
The numbers are permuted and never rescaled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from alexnet_jax.cli import checks, command
from alexnet_jax.errors import UserError
from alexnet_jax.nets.shapes import LayerShape, layer_shapes
from alexnet_jax.nets.spec import Net
from alexnet_jax.nets.variants import resolve, weighted_layers
from alexnet_jax.nets.zoo import NETS
from alexnet_jax.runs import workdir
from alexnet_jax.weights import readers
from alexnet_jax.weights.readers.arrays import quoted

Arrays = dict[str, np.ndarray]
Params = dict[str, dict[str, np.ndarray]]
TORCHVISION = {
    "conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8",
    "conv5": "features.10", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6",
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """How a program lays out its weights, and what it feeds its net with.

    Attributes:
      models: our nets that compute the same; the first is the default.
      keys: how it names the kernel and the bias of a layer, to be formatted with `layer`.
      layers: its name for each of our layers; empty = ours.
      bgr: its images are blue, green, red.
      mean: RGB, 0–255. scale: RGB; net input = (pixel − mean) × scale.
    """

    models: tuple[str, ...]
    keys: tuple[str, str]
    layers: dict[str, str]
    bgr: bool
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]


LAYOUTS = {
    "caffe": Layout(
        models=("caffe_alexnet", "caffenet"),
        keys=("{layer}/0", "{layer}/1"),
        layers={},
        bgr=True,
        # The mean over all places of Caffe's mean image, ilsvrc_2012_mean.npy.
        mean=(122.67891434, 116.66876762, 104.00698793),
        scale=(1.0, 1.0, 1.0),
    ),
    # torchvision's documentation: pixels of 0–1, less a mean, divided by a deviation.
    "torchvision": Layout(
        models=("one_weird_trick",),
        keys=("{layer}.weight", "{layer}.bias"),
        layers=TORCHVISION,
        bgr=False,
        mean=(255 * 0.485, 255 * 0.456, 255 * 0.406),
        scale=(1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)),
    ),
}
FLAGS = {
    "from": ("", "The weights: a .pth, .caffemodel, .npz or .safetensors file."),
    "layout": ("", f"Whose names and order of axes they have: {' or '.join(LAYOUTS)}."),
    "model": ("", "The net: caffe_alexnet (default) or caffenet; for torchvision one_weird_trick."),
    "workdir": ("", "Folder to write, like a run's; it must not hold a run yet."),
}


def define_flags(values: flags.FlagValues) -> None:
    """Declares the command's flags."""
    command.define(values, FLAGS)


def main(values: flags.FlagValues) -> int:
    """Converts the file that the flags name; nothing is written unless all of it is right."""
    layout, model, directory = check(values)
    arrays = readers.read(Path(values["from"].value))
    config = make_config(layout, model, arrays)
    net = resolve(config.model, config.data.crop_size)
    check_arrays(arrays, expected_shapes(layout, net), values["from"].value)
    params = converted(layout, net, arrays)
    save(directory, config, params)
    numbers = sum(x.size for layer in params.values() for x in layer.values())
    print(
        f"converted: {numbers:,} parameters of {values['from'].value} into {directory}, "
        f"{model} of width {config.model.width:g} with {config.model.num_classes} classes"
    )
    return 0


def check(values: flags.FlagValues) -> tuple[Layout, str, Path]:
    """The layout, the net's name and the workdir; raises UserError for flags that are not right."""
    for name in ("from", "layout", "workdir"):
        if not values[name].value:
            raise UserError(f"--{name} is missing; see --help")
    if values.layout not in LAYOUTS:
        raise UserError(f"--layout={values.layout} is unknown; choose from {', '.join(LAYOUTS)}")
    layout, directory = LAYOUTS[values.layout], Path(values.workdir)
    model = values.model or layout.models[0]
    if model not in layout.models:
        raise UserError(
            f"--model={model} is no net that --layout={values.layout} has weights for; choose from "
            f"{', '.join(layout.models)}"
        )
    if not Path(values["from"].value).exists():
        raise UserError(f"--from={values['from'].value} does not exist; give a file of weights")
    checks.check_writable(directory)
    if workdir.steps(directory) or (directory / workdir.CONFIG).exists():
        raise UserError(f"workdir {directory} holds a run already; give another --workdir")
    return layout, model, directory


def make_config(layout: Layout, model: str, arrays: Arrays) -> ConfigDict:
    """The config of a run with this net on ImageNet; its width and classes are the arrays'."""
    from configs import imagenet

    config = imagenet.get_config()
    config.data.crop_size = NETS[model].crop
    config.data.input_mean, config.data.input_scale = layout.mean, layout.scale
    config.data.augment.colour = "none"
    config.model.name = model
    config.model.num_classes = _units(arrays, layout, "fc8", 1000)
    published = weighted_layers(NETS[model])["conv1"].features
    config.model.width = _units(arrays, layout, "conv1", published) / published
    try:
        resolve(config.model, config.data.crop_size)
    except UserError:
        config.model.width = 1.0  # check_arrays then says which shapes are wrong
    return config


def _units(arrays: Arrays, layout: Layout, layer: str, otherwise: int) -> int:
    """How many units a layer has, by its bias."""
    bias = arrays.get(_keys(layout, layer)[1])
    return otherwise if bias is None else bias.size


def _keys(layout: Layout, layer: str) -> tuple[str, str]:
    """The names of a layer's kernel and bias in the file."""
    kernel, bias = (key.format(layer=layout.layers.get(layer, layer)) for key in layout.keys)
    return kernel, bias


def expected_shapes(layout: Layout, net: Net) -> dict[str, tuple[int, ...]]:
    """What the file must hold: kernels [out, in, rows, columns] or [out, in], biases [out]."""
    shapes = {}
    for shape in (x for x in layer_shapes(net, net.crop) if x.kernel):
        kernel, bias = _keys(layout, shape.layer.name)
        *window, maps, _ = shape.kernel[1:]
        shapes[kernel] = (shape.out[-1], maps, *window)
        shapes[bias] = (shape.out[-1],)
    return shapes


def check_arrays(arrays: Arrays, expected: dict[str, tuple[int, ...]], file: str) -> None:
    """Raises UserError unless these arrays are in the file, finite, in these shapes, no others."""
    faults = list(_faults(arrays, expected))
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(
            f"{file} is of another net: {'; '.join(faults[:3])}{more}; check --layout and --model"
        )
    for key, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{key} in {file} holds numbers that are not finite; give another file")


def _faults(arrays: Arrays, expected: dict[str, tuple[int, ...]]) -> Iterator[str]:
    for key, shape in expected.items():
        if key not in arrays:
            yield f"{key} {shape} is missing"
        elif arrays[key].shape != shape:
            yield f"{key} is {arrays[key].shape} instead of {shape}"
    for key in arrays:
        if key not in expected:
            yield f"{quoted(key)} {arrays[key].shape} is not known"


def converted(layout: Layout, net: Net, arrays: Arrays) -> Params:
    """Our parameters, from arrays of the expected shapes."""
    params, read = {}, (net.crop, net.crop, 3)
    for shape in layer_shapes(net, net.crop):
        if shape.kernel:
            kernel, bias = (arrays[key] for key in _keys(layout, shape.layer.name))
            if shape.layer.name == "conv1" and layout.bgr:
                kernel = kernel[:, ::-1]
            params[shape.layer.name] = {
                "kernel": _kernel(kernel, shape, read),
                "bias": np.ascontiguousarray(bias.reshape(shape.bias)),
            }
        read = shape.out
    return params


def _kernel(kernel: np.ndarray, shape: LayerShape, read: tuple[int, ...]) -> np.ndarray:
    """A kernel [out, in, …] as [towers, …, in, out of a tower].

    The outputs of Caffe's two groups lie one after the other, as do those of our towers. The first
    dense layer reads maps of the shape `read`: there channel by channel, here place by place.
    """
    if kernel.ndim == 2 and len(read) == 3:
        rows, columns, maps = read
        kernel = kernel.reshape(-1, maps, rows, columns).transpose(0, 2, 3, 1)
        kernel = kernel.reshape(len(kernel), -1)
    towers = kernel.reshape(shape.kernel[0], shape.per_tower, *kernel.shape[1:])
    return np.ascontiguousarray(np.moveaxis(towers, (1, 2), (-1, -2)))


def save(directory: Path, config: ConfigDict, params: Params) -> None:
    """Writes the workdir of a run at step 0 that has these parameters and has learnt nothing."""
    import jax

    from alexnet_jax.nets.model import build_model
    from alexnet_jax.runs.checkpoint import Checkpoints
    from alexnet_jax.runs.lock import only_run
    from alexnet_jax.runs.record import RunRecord, random_generator
    from alexnet_jax.step import make_initial_state

    state = jax.jit(make_initial_state(config, build_model(config)))()
    state = state.replace(params=jax.tree.map(jax.numpy.asarray, params))
    record = RunRecord(0.0, random_generator(), None)
    mean = np.asarray(config.data.input_mean, np.float32)
    with only_run(directory):
        workdir.write_config(directory, config)
        with Checkpoints(directory, config.checkpoint.keep) as checkpoints:
            checkpoints.save(0, state, mean, record, None)


if __name__ == "__main__":
    command.run(main, define_flags, __doc__)
