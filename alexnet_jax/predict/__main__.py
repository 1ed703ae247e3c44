"""Classifies pictures, writes a net's features, or finds the nearest pictures.

    python -m alexnet_jax.predict --checkpoint=runs/digits --images=photos
    python -m alexnet_jax.predict --checkpoint=runs/digits \\
        --images=photos,'more/*.jpg' --output=classes.csv --sheet=classes.png
    python -m alexnet_jax.predict --checkpoint=runs/digits --images=photos \\
        --features=fc7 --output=features.npz
    python -m alexnet_jax.predict --checkpoint=runs/digits --images=query.jpg \\
        --neighbours=6 --gallery=photos --sheet=nearest.png

Pictures may have any size. Each is brought to the form that `prepare` stores:
upright, its shorter side as long as the training pictures', the centre square.
A file that cannot be read is reported in its own row and the others go on.
"""

from absl import flags

from alexnet_jax.cli import command
from alexnet_jax.data.library_messages import library_messages_discarded
from alexnet_jax.predict.request import check

FLAGS = {
    "checkpoint": ("", "A workdir, workdir/checkpoints/STEP, or a folder that export wrote."),
    "images": ((), "Pictures: files, folders (with all below them) or patterns, commas between; "
               "in a list, a name with a comma needs double quotes."),
    "top": (5, "Classes to show of each picture."),
    "views": (1, "1 = the centre; 10 = mean of corners and centre, mirrored too (paper §4.1)."),
    "labels": ("", "Text file of class names, one a line; default: those of the training data."),
    "output": ("", "File to write: .jsonl or .csv, or .npz for --features."),
    "features": ("", "Layer whose output to write to an .npz, or to compare with --neighbours."),
    "neighbours": (0, "Nearest pictures to find for each picture, in fc7 or --features."),
    "gallery": ((), "Pictures that the neighbours are chosen from, as --images."),
    "sheet": ("", "A .png or .svg to draw: pictures with their classes, or with their neighbours."),
    "batch_size": (128, "Pictures that the net works on at once."),
}  # fmt: skip


def define_flags(values: flags.FlagValues) -> None:
    """Declares the command's flags."""
    command.define(values, FLAGS)


def main(values: flags.FlagValues) -> int:
    """Does what the flags ask for; returns 0, also if some of several files cannot be read."""
    request = check(values)
    from alexnet_jax.predict import tasks

    task = tasks.classify
    if request.neighbours:
        task = tasks.find_neighbours
    elif request.layer:
        task = tasks.save_features
    with library_messages_discarded():
        task(request)
    return 0


if __name__ == "__main__":
    command.run(main, define_flags, __doc__)
