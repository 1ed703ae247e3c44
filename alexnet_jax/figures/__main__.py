"""Draws figures of a run, or of the records in results/.

    python -m alexnet_jax.figures --workdir=runs/digits
        training curves, first-layer kernels by tower, the net's layers and, if the run has been
        evaluated, eight test pictures with their likeliest classes, in runs/digits/figures
    python -m alexnet_jax.figures --plateau=results/plateau
        the loss at chance for other initial weights, beside the records
    python -m alexnet_jax.figures --activations=results/figure1_rates
        training error of ReLU and tanh (paper, Figure 1), beside the records

Every figure is written as PNG and as SVG.
"""

from collections.abc import Iterator
from pathlib import Path

from absl import flags

from alexnet_jax.cli import command
from alexnet_jax.errors import UserError

FLAGS = {
    "workdir": ("", "Workdir of a run."),
    "plateau": ("", "Folder of the plateau's records."),
    "activations": ("", "Folder of Figure 1's records."),
}


def define_flags(values: flags.FlagValues) -> None:
    """Declares the command's flags."""
    command.define(values, FLAGS)


def figures_of_run(workdir: Path) -> Iterator[Path]:
    """Draws the figures of one run; yields the paths written."""
    import numpy as np

    from alexnet_jax.figures.architecture import draw_net
    from alexnet_jax.figures.curves import draw_curves, read_metrics
    from alexnet_jax.figures.kernels import draw_kernels
    from alexnet_jax.figures.predictions import draw_predictions
    from alexnet_jax.figures.style import save
    from alexnet_jax.runs.predictions import read_predictions
    from alexnet_jax.weights.loading import load

    folder = workdir / "figures"
    lines = read_metrics(workdir)
    model, variables, config = load(workdir)
    name = config.model.name
    yield from save(draw_curves(lines, f"{name} on {config.data.name}"), folder, "curves")
    kernel = np.asarray(variables["params"]["conv1"]["kernel"])
    yield from save(draw_kernels(kernel, "first-layer kernels"), folder, "kernels")
    yield from save(draw_net(model.net, f"{name}, width {config.model.width:g}"), folder, "net")
    predictions = read_predictions(workdir)
    if predictions is not None:
        yield from save(draw_predictions(predictions), folder, "predictions")


def main(values: flags.FlagValues) -> int:
    """Draws what the flags name and prints the paths; returns the exit code."""
    if not (values.workdir or values.plateau or values.activations):
        raise UserError("nothing to draw; give --workdir, --plateau or --activations, see --help")
    if values.workdir:
        for path in figures_of_run(Path(values.workdir)):
            print(path)
    if values.plateau:
        from alexnet_jax.figures.plateau import draw_plateau, read_runs
        from alexnet_jax.figures.style import save

        folder = Path(values.plateau)
        for path in save(draw_plateau(read_runs(folder)), folder, "plateau"):
            print(path)
    if values.activations:
        from alexnet_jax.figures.activations import draw_activations, read_activation_runs
        from alexnet_jax.figures.style import save

        folder = Path(values.activations)
        figure = draw_activations(read_activation_runs(folder))
        for path in save(figure, folder, "activations"):
            print(path)
    return 0


if __name__ == "__main__":
    command.run(main, define_flags, __doc__)
