"""Converts the weights of Caffe's, torchvision's or your AlexNet to a checkpoint.

    python -m alexnet_jax.convert --from=bvlc_alexnet.caffemodel \\
        --layout=caffe --workdir=runs/bvlc_alexnet
    python -m alexnet_jax.convert --from=alexnet.pth --layout=torchvision \\
        --workdir=runs/torchvision
    python -m alexnet_jax.convert --from=results/nets/digits --workdir=runs/x

--from is a .pth, .caffemodel, .npz or .safetensors; nothing in it is executed.
In the last two, arrays have the names of the layout: conv1/0 (weights) and
conv1/1 (biases) for Caffe's, features.0.weight and features.0.bias for
torchvision's. Prefixes that training scripts add, such as module. or model.,
are removed. The numbers are permuted and never rescaled. A folder that
alexnet_jax.export wrote brings its own net, settings and mean image.

The workdir is then like a run's at step 0: evaluate it with alexnet_jax.main
--mode=eval --checkpoint=DIR, train on from it with --config.init_from=DIR, load
it with alexnet_jax.load(DIR). Its config is --config (by default the checkout's
configs/imagenet.py) with the net and the input scale of the file;
--config.key=value overrides both.
"""

import sys
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from alexnet_jax.cli import checks, command, config_flag
from alexnet_jax.cli.tables import wrap
from alexnet_jax.errors import UserError
from alexnet_jax.nets.zoo import NETS
from alexnet_jax.runs import rules, workdir
from alexnet_jax.weights import matching, readers
from alexnet_jax.weights.conversion import fill_config, report, stated_net
from alexnet_jax.weights.hub import is_hub, load_hub
from alexnet_jax.weights.layouts import LAYOUTS, Params, WeightLayout, to_params, unnamed_layers

CONFIG = "imagenet.py"  # unless --config names another
FLAGS = {
    "from": (
        "",
        "The weights: a .pth, .caffemodel, .npz or .safetensors file, or an exported folder.",
    ),
    "layout": ("", f"Whose names and order of axes they have: {' or '.join(LAYOUTS)}."),
    "model": ("", "The net to build; empty = that of the file or, if it names none, the layout's."),
    "workdir": ("", "Folder to write, like a run's; it must not hold a run yet."),
}


def define_flags(values: flags.FlagValues) -> None:
    """Declares the command's flags other than --config."""
    command.define(values, FLAGS)
    flags.DEFINE_bool(
        "partial",
        False,
        "Take the layers that fit and draw the others at random, instead of refusing the file.",
        flag_values=values,
    )


def main(values: flags.FlagValues) -> int:
    """Converts the file or folder of --from; writes nothing if a flag or the source is wrong."""
    source = values["from"].value
    convert = convert_folder if source and is_hub(Path(source).expanduser()) else convert_file
    return convert(values)


def convert_folder(values: flags.FlagValues) -> int:
    """Converts a folder that export wrote.

    Raises:
      UserError: a flag that is for files, a damaged folder, or a workdir that holds a run.
    """
    # The folder has its own config: a setting that would be ignored is an error.
    overrides = sorted(config_flags.get_override_values(values["config"]))
    given = [name for name in ("layout", "model", "partial") if values[name].value]
    named = Path(config_flags.get_config_filename(values["config"]))
    if named.resolve() != (config_flag.CONFIGS / CONFIG).resolve():
        given.append("config")
    given += [f"config.{key}" for key in overrides]
    if given:
        raise UserError(
            f"--{given[0]} is for files of weights; a folder brings its own: leave it out"
        )
    directory, folder = free_workdir(values), Path(values["from"].value).expanduser()
    trained = load_hub(folder)
    write_workdir(directory, trained.config, trained.params, trained.mean, trained.class_names)
    print(wrap(converted(trained.params, folder, directory)))
    return 0


def convert_file(values: flags.FlagValues) -> int:
    """Converts a file of weights.

    Raises:
      UserError: a wrong flag, or a file that cannot be read or is of another net.
    """
    layout, file, directory = check(values)
    config, overrides = values.config, config_flags.get_override_values(values["config"])
    content = readers.read(file)
    stated = stated_net(layout, content.facts)
    model = values.model or stated or layout.nets[0]
    arrays, notes = matching.renamed(layout, NETS[model], content.arrays)
    # The file decides the width and the number of classes, so the config follows the arrays.
    net = fill_config(config, overrides, layout, model, arrays)
    found = matching.match(layout, net, arrays, file, partial=values.partial)
    params = to_params(layout, net, found.arrays)
    write_workdir(directory, config, params, np.asarray(config.data.input_mean, np.float32))
    lines = (
        f"{converted(params, file, directory)}, {model} of width {config.model.width:g} with "
        f"{config.model.num_classes} classes",
        *notes,
        *report(config, layout, stated, content.facts, found, params),
    )
    print(*map(wrap, lines), sep="\n")
    return 0


def check(values: flags.FlagValues) -> tuple[WeightLayout, Path, Path]:
    """Returns the layout, the file and the workdir.

    Raises:
      UserError: a flag or a setting is wrong, the file is missing, or the workdir holds a run.
    """
    for name in ("from", "layout"):
        if not values[name].value:
            raise UserError(f"--{name} is missing; see --help")
    if values.layout not in LAYOUTS:
        raise UserError(f"--layout={values.layout} is unknown; choose from {', '.join(LAYOUTS)}")
    layout = LAYOUTS[values.layout]
    holdable = [name for name, net in NETS.items() if not unnamed_layers(layout, net)]
    if values.model and values.model not in holdable:
        raise UserError(
            f"--model={values.model} is no net that --layout={values.layout} can hold; choose from "
            f"{', '.join(holdable)}"
        )
    # --model and --config.model.name name the same net, and could contradict each other.
    if "model.name" in config_flags.get_override_values(values["config"]):
        raise UserError("--config.model.name is what --model sets; give --model instead")
    rules.check(values.config)
    file = Path(values["from"].value).expanduser()
    if not file.exists():
        raise UserError(f"--from={file} does not exist; give a file of weights")
    return layout, file, free_workdir(values)


def free_workdir(values: flags.FlagValues) -> Path:
    """Returns the folder of --workdir.

    Raises UserError if the flag is missing, or the folder holds a run or cannot be written to.
    """
    if not values.workdir:
        raise UserError("--workdir is missing; see --help")
    directory = Path(values.workdir).expanduser()
    checks.check_workdir(directory)
    # A training writes its config before its first checkpoint. A result would pass for this net's.
    has_config = (directory / workdir.CONFIG).exists()
    if has_config or workdir.steps(directory) or workdir.results(directory):
        raise UserError(
            f"workdir {directory} holds a run, or the result of one; give another --workdir"
        )
    return directory


def converted(params: Params, source: Path, directory: Path) -> str:
    """Returns the line for the user on what was converted."""
    numbers = sum(array.size for layer in params.values() for array in layer.values())
    return f"converted: {numbers:,} parameters of {source} into {directory}"


def write_workdir(
    directory: Path,
    config: ConfigDict,
    params: Params,
    mean: np.ndarray,
    class_names: tuple[str, ...] = (),
) -> None:
    """Writes the workdir of a run at step 0.

    Args:
      directory: of the run.
      config: of the run.
      params: of the net, {layer: {name: float32}}; layers that are missing are drawn at random.
      mean: of the input, float32 [crop, crop, 3] or [3], 0–255.
      class_names: in the order of the outputs; empty if they are not known.
    """
    # Imported late: all mistakes of the user are found without jax, which takes seconds to load.
    import jax

    from alexnet_jax.nets.model import build_model
    from alexnet_jax.runs.checkpoint import Checkpoints
    from alexnet_jax.runs.lock import only_run
    from alexnet_jax.runs.record import DataFacts, RunRecord, random_generator
    from alexnet_jax.train.step import TrainState, make_initial_state, with_params

    make_state = make_initial_state(config, build_model(config))

    def state_of_missing_layers() -> TrainState:
        state = make_state()
        missing = {name: layer for name, layer in state.params.items() if name not in params}
        # Under jit, XLA does not draw the layers that are not part of the result.
        return with_params(state, missing)

    state = jax.jit(state_of_missing_layers)()
    state = with_params(state, {**state.params, **jax.tree.map(jax.numpy.asarray, params)})
    data = DataFacts(config.data.name, "", class_names, config.data.image_size, {})
    record = RunRecord(0.0, random_generator(), data if class_names else None)
    with only_run(directory):  # a training may be started in the same folder at the same moment
        with Checkpoints(directory, config.checkpoint.keep) as checkpoints:
            checkpoints.save(0, state, mean, record, None)
        # Last: a workdir with a config counts as taken, and the disk may be full.
        workdir.write_config(directory, config)


if __name__ == "__main__":
    sys.argv = config_flag.with_default(sys.argv, CONFIG)
    command.run(main, define_flags, __doc__, with_config=True)
