"""Writes one HTML file about a run, or about several side by side.

    python -m alexnet_jax.report --workdir=runs/digits
    python -m alexnet_jax.report --workdir=runs/a,runs/b --output=report.html

The file needs no network and nothing beside it. It holds the results, the
training curves with the drops of the learning rate, the first layer's kernels
by tower, the settings (first those in which the runs differ) and the machine.
Of a run that was evaluated (main --mode=eval) it also shows the confusion
matrix, the best and worst classes and the pictures that the net gets most
wrong.
"""

from absl import flags

from alexnet_jax.cli import command
from alexnet_jax.report.request import check

FLAGS = {
    "workdir": ((), "Workdirs of runs, commas between."),
    "output": ("", "The .html file to write; default: report.html in the workdir of a single run."),
}


def define_flags(values: flags.FlagValues) -> None:
    """Declares the command's flags."""
    command.define(values, FLAGS)


def main(values: flags.FlagValues) -> int:
    """Writes the report and prints its path; returns the exit code."""
    request = check(values)
    from alexnet_jax.disk.durable import write_text
    from alexnet_jax.report.page import page
    from alexnet_jax.report.run_facts import read_run

    pairs = zip(request.labels, request.workdirs, strict=True)
    runs = [read_run(label, workdir) for label, workdir in pairs]
    write_text(request.output, page(runs))
    print(f"written to {request.output}")
    return 0


if __name__ == "__main__":
    command.run(main, define_flags, __doc__)
