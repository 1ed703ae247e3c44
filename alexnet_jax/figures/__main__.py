"""Draws figures of a run, or of the records in results/.

    python -m alexnet_jax.figures --workdir=runs/digits
        training curves, first-layer kernels by tower, the net's layers and, if
        the run has been evaluated, eight test pictures with their likeliest
        classes, in runs/digits/figures; a net that was converted or exported
        has no curves
    python -m alexnet_jax.figures --curves=results/tiny_imagenet/seed0
        training curves of a record, beside it
    python -m alexnet_jax.figures --plateau=results/plateau
        the loss at chance for other initial weights, beside the records
    python -m alexnet_jax.figures --activations=results/figure1
        training error of ReLU and tanh (paper, Figure 1), beside the records
    python -m alexnet_jax.figures --scaling=results
        error against width and number of pictures, in results/scaling

Every figure is written as PNG and as SVG.
"""

from collections.abc import Iterator
from pathlib import Path

from absl import flags

from alexnet_jax.cli import command
from alexnet_jax.cli.checks import check_writable
from alexnet_jax.errors import UserError
from alexnet_jax.runs.workdir import check_is_workdir

FLAGS = {
    "workdir": ("", "Workdir of a run."),
    "curves": ("", "Folder of a record: config.json and metrics.jsonl."),
    "plateau": ("", "Folder of the plateau's records."),
    "activations": ("", "Folder of Figure 1's records."),
    "scaling": ("", "Folder with the folders scaling and ablations of records."),
}


def define_flags(values: flags.FlagValues) -> None:
    """Declares the command's flags."""
    command.define(values, FLAGS)


def figures_of_run(workdir: Path) -> Iterator[Path]:
    """Draws the figures of one run; yields the paths written."""
    # Imported late, so that --help and a wrong flag are answered at once.
    import numpy as np

    from alexnet_jax.figures.architecture import draw_net
    from alexnet_jax.figures.curves import draw_curves
    from alexnet_jax.figures.kernels import draw_kernels, first_convolution
    from alexnet_jax.figures.predictions import draw_predictions
    from alexnet_jax.figures.style import save
    from alexnet_jax.runs.metrics import FILE, read_lines
    from alexnet_jax.runs.predictions import read_predictions
    from alexnet_jax.runs.workdir import find_good
    from alexnet_jax.weights.loading import load

    folder, metrics = workdir / "figures", workdir / FILE
    model, variables, config = load(workdir)
    name = config.model.name
    # A run that was stopped before its first line has an empty file.
    if metrics.is_file() and (lines := read_lines(metrics)):
        yield from save(draw_curves(lines, f"{name} on {config.data.name}"), folder, "curves")
    if first := first_convolution(model.net):
        kernel = np.asarray(variables["params"][first]["kernel"])
        yield from save(draw_kernels(kernel, "first-layer kernels"), folder, "kernels")
    yield from save(draw_net(model.net, f"{name}, width {config.model.width:g}"), folder, "net")
    predictions = read_predictions(workdir)
    if predictions is None:
        return
    evaluated, newest = predictions.numbers["step"], find_good(workdir)[0]
    if evaluated != newest:
        print(f"the predictions are of step {evaluated}, the kernels of step {newest}")
    try:
        yield from save(draw_predictions(predictions), folder, "predictions")
    except UserError as error:  # the pictures may be away; the other figures do not need them
        print(f"predictions are not drawn: {error}")


def figures_of_records(values: flags.FlagValues) -> Iterator[Path]:
    """Draws the figures of records that the flags name; yields the paths written."""
    from alexnet_jax.figures.activations import draw_activations, read_activation_runs
    from alexnet_jax.figures.curves import draw_curves, read_metrics
    from alexnet_jax.figures.plateau import draw_plateau, read_runs
    from alexnet_jax.figures.scaling import draw_scaling, read_scaling
    from alexnet_jax.figures.style import save
    from alexnet_jax.runs.workdir import read_config

    if values.curves:
        folder = Path(values.curves)
        lines, config = read_metrics(folder), read_config(folder)
        record = "/".join(folder.resolve().parts[-2:])
        yield from save(draw_curves(lines, f"{record}: {config.model.name}"), folder, "curves")
    if values.plateau:
        folder = Path(values.plateau)
        yield from save(draw_plateau(read_runs(folder)), folder, "plateau")
    if values.activations:
        folder = Path(values.activations)
        yield from save(draw_activations(read_activation_runs(folder)), folder, "activations")
    if values.scaling:
        folder = Path(values.scaling)
        yield from save(draw_scaling(read_scaling(folder)), folder / "scaling", "scaling")


def main(values: flags.FlagValues) -> int:
    """Draws what the flags name and prints the paths; returns the exit code."""
    if not any(getattr(values, name) for name in FLAGS):
        given = " or ".join(f"--{name}" for name in FLAGS)
        raise UserError(f"nothing to draw; give {given}, see --help")
    for name in FLAGS:
        if values[name].value:
            check_writable(Path(values[name].value), name)
    if values.workdir:
        check_is_workdir(Path(values.workdir))
        for path in figures_of_run(Path(values.workdir)):
            print(path)
    for path in figures_of_records(values):
        print(path)
    return 0


if __name__ == "__main__":
    command.run(main, define_flags, __doc__)
