"""Draws what a trained net looks at in pictures, or what excites its units.

    python -m alexnet_jax.explain --checkpoint=runs/digits --images=photos \\
        --sheet=explained.png
    python -m alexnet_jax.explain --checkpoint=runs/digits --layer=conv2 \\
        --sheet=units.png

With --images, each row of the sheet has a picture with its class, and a column
for each of --methods:
  saliency   how strongly each pixel changes the class's logit
             (Simonyan et al. 2013)
  occlusion  red where a grey square over the picture lowers the probability of
             the class, blue where it raises it (Zeiler and Fergus 2013)
  gradcam    the maps of --layer that speak for the class
             (Selvaraju et al. 2016)
  deconv     the pattern that excites the strongest unit of --layer (Zeiler and
             Fergus 2013)
Without --images, the sheet shows a picture for each of --units of --layer that
excites it, made by gradient ascent (Yosinski et al. 2015).
"""

from absl import flags

from alexnet_jax.cli import command
from alexnet_jax.data.library_messages import library_messages_discarded
from alexnet_jax.explain.request import METHODS, check

FLAGS = {
    "checkpoint": ("", "A workdir, workdir/checkpoints/STEP, or a folder that export wrote."),
    "images": ((), "Pictures: files, folders or patterns, commas between; the first 8 are drawn."),
    "methods": (list(METHODS), "Columns of the sheet, commas between."),
    "layer": ("", "Layer of gradcam, deconv and --units; default: the last convolution."),
    "units": ([], "Numbers of the units to excite, from 0, commas between; default: the first 24."),
    "labels": ("", "Text file of class names, one a line; default: those of the training data."),
    "sheet": ("", "The .png or .svg to draw."),
}  # fmt: skip


def define_flags(values: flags.FlagValues) -> None:
    """Declares the command's flags."""
    command.define(values, FLAGS)


def main(values: flags.FlagValues) -> int:
    """Draws the sheet that the flags ask for."""
    request = check(values)
    from alexnet_jax.explain import tasks

    task = tasks.explain_pictures if request.images else tasks.draw_units
    with library_messages_discarded():
        task(request)
    print(f"drawn: {request.sheet}")
    return 0


if __name__ == "__main__":
    command.run(main, define_flags, __doc__)
