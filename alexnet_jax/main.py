"""Trains and evaluates AlexNet.

Train:     python -m alexnet_jax.main --config=configs/base.py \\
               --workdir=runs/digits
           A workdir that holds a checkpoint is resumed. --config.key=value
           overrides a setting.
Evaluate:  the same with --mode=eval; other runs with --checkpoint=DIR[,DIR…],
           several as an ensemble.
Describe:  python -m alexnet_jax.main --config=configs/base.py --mode=describe
"""

import contextlib

from absl import flags

from alexnet_jax import parallel
from alexnet_jax.cli import command
from alexnet_jax.cli.checks import Run, check
from alexnet_jax.cli.tables import wrap

FLAGS = {
    "workdir": ("", "Folder of the run; empty = runs/<config>-<time>."),
    "checkpoint": ((), "To evaluate: workdirs or workdir/checkpoints/STEP, commas between."),
    "probabilities": ("", "To evaluate: an .npz for the probabilities and labels of all images."),
    "submission": ("", "To evaluate: a text file with the five likeliest classes of each image, "
                   "as positions in the store's labels.txt, counted from 1."),
    "coordinator": ("", "For several processes: host:port of process 0; not needed under SLURM."),
    "num_processes": (1, "With --coordinator: number of processes."),
    "process_id": (0, "With --coordinator: index of this process, counted from 0."),
    "initialization_timeout": (300, "Seconds to wait until all processes have arrived."),
}  # fmt: skip


def define_flags(values: flags.FlagValues) -> None:
    """Declares the flags other than --config."""
    modes = ["train", "eval", "describe"]
    flags.DEFINE_enum("mode", "train", modes, "train, eval or describe.", flag_values=values)
    command.define(values, FLAGS)


def train(run: Run) -> int:
    """Trains; returns 0, or the exit code of the signal that stopped it."""
    from alexnet_jax.runs.signals import Stop

    stop = Stop()  # first, so that no signal is lost that arrives while jax is imported
    from alexnet_jax.data import open_dataset
    from alexnet_jax.runs.announce import end_lines
    from alexnet_jax.runs.lock import only_run
    from alexnet_jax.train import loop

    dataset = open_dataset(run.config.data)
    with contextlib.ExitStack() as held:
        if parallel.is_lead_process():  # one lock a run, not one a process
            held.enter_context(only_run(run.workdir))
        print(f"workdir: {run.workdir}", *map(wrap, run.notes), sep="\n", flush=True)
        step = loop.train(run.config, dataset, run.workdir, stop)
    if stop.signal:
        print(f"stopped: saved step {step}; the same command with this workdir resumes it")
    else:
        print(*end_lines(run.workdir, step), sep="\n")
    return stop.exit_code


def main(values: flags.FlagValues) -> int:
    """Trains, evaluates or describes as --mode says; returns the exit code."""
    # First: jax must join the other processes before anything looks for devices.
    if values.mode != "describe":
        parallel.initialize_distributed(
            values.coordinator,
            values.num_processes,
            values.process_id,
            values.initialization_timeout,
        )
    run = check(values)
    if values.mode == "train":
        return train(run)
    if values.mode == "describe":
        from alexnet_jax.cli.describe import describe

        print(*map(wrap, run.notes), describe(run.config), sep="\n")
        return 0
    from alexnet_jax.cli.evaluation import evaluate_and_write

    evaluate_and_write(run, values.probabilities, values.submission)
    return 0


if __name__ == "__main__":
    command.run(main, define_flags, __doc__, with_config=True)
