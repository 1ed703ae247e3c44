"""Exports a trained net: weights, an ONNX model, or a folder for a model hub.

    python -m alexnet_jax.export --checkpoint=runs/digits --to=digits.onnx

--to says what is written:
    FILE.safetensors, FILE.npz   the weights in the layout of Caffe or
                                 torchvision (--layout), as alexnet_jax.convert
                                 reads them
    FILE.onnx                    a model that takes pixels of 0–255 (needs pip
                                 install onnx)
    FOLDER                       config.json, model.safetensors and a model
                                 card, in the layout of Hugging Face's hub;
                                 alexnet_jax.load(FOLDER) reads it

The numbers are permuted and never rescaled. --checkpoint can be such a folder,
too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from alexnet_jax import environment
from alexnet_jax.cli import command
from alexnet_jax.cli.tables import wrap
from alexnet_jax.disk.durable import write_bytes
from alexnet_jax.errors import UserError
from alexnet_jax.nets.shapes import without_statistics
from alexnet_jax.runs import workdir
from alexnet_jax.runs.predictions import read_evaluation
from alexnet_jax.weights import writers
from alexnet_jax.weights.hub import hub_files, is_hub, load_hub
from alexnet_jax.weights.layouts import LAYOUTS
from alexnet_jax.weights.trained_net import TrainedNet
from alexnet_jax.weights.untrained import untrained_warning

FILES = (".safetensors", ".npz", ".onnx")
FLAGS = {
    "checkpoint": ("", "A workdir (its newest checkpoint) or workdir/checkpoints/STEP."),
    "to": ("", "FILE.safetensors, FILE.npz, FILE.onnx or a folder; it must not exist yet."),
    "layout": ("", f"Of .safetensors and .npz: {' or '.join(LAYOUTS)}; empty = caffe."),
    "license": (
        "",
        "Of a folder: the weights' license in the model card, such as mit; empty = other.",
    ),
}


@dataclass(frozen=True)
class Request:
    """A validated request: `kind` is one of FILES, or empty for a folder."""

    checkpoint: Path
    target: Path
    kind: str
    layout: str
    license_name: str


def define_flags(values: flags.FlagValues) -> None:
    """Declares the command's flags."""
    command.define(values, FLAGS)


def check(values: flags.FlagValues) -> Request:
    """Returns the request; raises UserError for wrong flags, before jax is imported."""
    for name in ("checkpoint", "to"):
        if not values[name].value:
            raise UserError(f"--{name} is missing; see --help")
    target, checkpoint = (Path(x).expanduser() for x in (values.to, values.checkpoint))
    # From the flag itself: Path drops the / that marks a folder with a dot in its name.
    kind = "" if values.to.endswith("/") else target.suffix
    if kind and kind not in FILES:
        raise UserError(
            f"--to={values.to} ends in {kind}; give {', '.join(FILES)}, or a folder that ends in /"
        )
    for flag, kinds, meaning in (
        ("layout", (".safetensors", ".npz"), "a .safetensors or .npz"),
        ("license", ("",), "a folder"),
    ):
        if values[flag].value and kind not in kinds:
            raise UserError(f"--{flag} is for {meaning}, not --to={values.to}; leave it out")
    if values.layout and values.layout not in LAYOUTS:
        raise UserError(f"--layout={values.layout} is unknown; choose from {', '.join(LAYOUTS)}")
    if kind == ".onnx":
        environment.check_packages("onnx")
    if target.exists():
        raise UserError(f"--to={values.to} exists already; remove it or give another name")
    if not is_hub(checkpoint):
        workdir.check_restorable(checkpoint)
    return Request(checkpoint, target, kind, values.layout or "caffe", values.license or "other")


def main(values: flags.FlagValues) -> int:
    """Writes the file or folder that --to names."""
    request = check(values)
    from alexnet_jax.cli.checks import check_writable

    folder = request.target.absolute().parent
    check_writable(folder, "to")
    trained = read_trained(request.checkpoint)
    if request.kind == ".onnx":
        content, input_text = writers.onnx_file(trained), writers.onnx_input(trained)
    elif request.kind:
        content = writers.array_file(trained, request.layout, request.kind)
        input_text = writers.array_input(trained, request.layout)
    else:
        content = hub_files(trained, evaluation_of(request.checkpoint), request.license_name)
        input_text = "as config.json and input.mean say; alexnet_jax.load applies them"
    # Only now: a net that this format cannot hold leaves no empty folder.
    folder.mkdir(parents=True, exist_ok=True)
    write = write_bytes if request.kind else writers.write_folder
    write(request.target, content)
    learned = without_statistics(trained.params)
    numbers = sum(x.size for layer in learned.values() for x in layer.values())
    print(wrap(f"exported: {numbers:,} parameters of {request.checkpoint} to {request.target}"))
    print(wrap(f"input: {input_text}"))
    if warning := untrained_warning(trained.params):
        print(warning)
    return 0


def read_trained(checkpoint: Path) -> TrainedNet:
    """Reads the net of a checkpoint, or of a folder in the hub's layout."""
    if is_hub(checkpoint):
        return load_hub(checkpoint)
    import jax

    from alexnet_jax.nets.model import build_model
    from alexnet_jax.parallel import Layout, make_devices
    from alexnet_jax.runs.checkpoint import restore_params
    from alexnet_jax.runs.restore import abstract_params

    config = workdir.read_config(checkpoint)
    model = build_model(config)
    restored = restore_params(checkpoint, abstract_params(model, make_devices(Layout())))
    names = restored.record.data.class_names if restored.record.data else ()
    return TrainedNet(model.net, jax.device_get(restored.params), config, restored.mean, names)


def evaluation_of(checkpoint: Path) -> Mapping[str, Any]:
    """Returns the content of the run's eval.json if it evaluates this checkpoint alone, else {}."""
    if is_hub(checkpoint):
        return {}
    try:
        found = read_evaluation(workdir.workdir_of(checkpoint))
        about = found["step"], found["members"], bool(found["data"])
        # The error of an ensemble, or of another step, is not that of this net.
        same = about == (workdir.good_step(checkpoint), 1, True)
    except (UserError, KeyError):
        return {}
    return found if same else {}


if __name__ == "__main__":
    command.run(main, define_flags, __doc__)
