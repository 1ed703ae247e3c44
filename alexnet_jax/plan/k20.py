"""The forecast beside the table of "One weird trick" (Krizhevsky 2014, arXiv 1404.5997).

Nothing is fitted but the FLOP/s of a K20, to the row of one GPU.
"""

from dataclasses import replace

from alexnet_jax.nets.spec import Net
from alexnet_jax.nets.zoo import NETS
from alexnet_jax.parallel import Layout
from alexnet_jax.plan.forecast import Machine, forecast, step_flops

COMMAND = "python -m alexnet_jax.plan --config=configs/imagenet.py --table=k20"
EPOCHS, IMAGES, PER_GPU = 90, 1_281_167, 128
ONE_GPU = 98.05  # hours
# GPUs: hours with the dense layers' batch whole (128 × GPUs), and with it in parts of 128.
PUBLISHED = {2: (50.24, 50.90), 4: (26.20, 26.78), 8: (15.68, 15.91)}
LINKS = (6.0, 3.0)  # GB/s
TEXT = """\
# The plan's forecast beside the 2014 table (8×K20)

`{command}`

The published hours are **as remembered, not verified** (arXiv 1404.5997, 90 epochs of ILSVRC-2012,
hybrid scheme, {per_gpu} images for each GPU; cross-entropy cost).

- Net: `one_weird_trick` with 1000 classes, {gflop:.3f} GFLOP an image (forward and backward).
- A GPU's speed: from the row of one GPU, {hours} h, hence {rate:.1f} images/s = {tflops:.3f}
  TFLOP/s sustained. That row is reproduced by construction; the others are the test.
- Link: assumed, not fitted. A K20 is limited to PCIe 2 ×16, 8 GB/s each way by the standard:
  {first:g} GB/s is what that sustains, {second:g} GB/s what is left where GPUs under different CPUs
  talk (as remembered, not verified). Both are shown, to tell how much hangs on it.
- Step = compute + link, without overlap; float32; rings. Our hybrid scheme gathers the whole batch
  before the dense layers and computes the classifier everywhere.

{table}

What the model lacks: the paper overlaps communication with computation, which makes it faster than
the model; latency, links that several GPUs share, the update and the input make it slower. Its
sub-batch schemes, which pass the dense layers' batch in parts of 128 (the right one of the two
published columns), are not modelled either: our program has only the left one. At eight GPUs the
forecast is too fast by more than the assumed speed of the link explains. `data` is no published
row: it is what plain data parallelism would take, set against the same published hours.
"""


def one_weird_trick() -> Net:
    """The net with its 1000 classes."""
    net = NETS["one_weird_trick"]
    return replace(net, layers=(*net.layers[:-1], replace(net.layers[-1], features=1000)))


def calibrated(link: float) -> Machine:
    """A K20 with FLOP/s such that one takes 98.05 h; `link` in GB/s."""
    steps = EPOCHS * IMAGES / PER_GPU
    flops = steps * step_flops(one_weird_trick(), Layout(), PER_GPU) / (3600 * ONE_GPU)
    return Machine(link * 1e9, flops)


def hours(gpus: int, hybrid: bool, link: float) -> float:
    """Forecast for 90 epochs on so many K20, a link in GB/s."""
    layout = Layout(gpus, hybrid=hybrid and gpus > 1)
    step = forecast(one_weird_trick(), layout, PER_GPU * gpus, calibrated(link))
    return EPOCHS * IMAGES / step.images_per_second / 3600


def report() -> str:
    """The comparison as Markdown: results/plan/k20.md."""
    flops = step_flops(one_weird_trick(), Layout(), PER_GPU) / PER_GPU
    machine = calibrated(LINKS[0])
    return TEXT.format(
        command=COMMAND,
        per_gpu=PER_GPU,
        gflop=flops / 1e9,
        hours=ONE_GPU,
        rate=machine.flops / flops,
        tflops=machine.flops / 1e12,
        first=LINKS[0],
        second=LINKS[1],
        table=_table(),
    ).rstrip()


def _table() -> str:
    header = ("GPUs", "link GB/s", "published h: whole batch", "parts of 128", "hybrid h")
    deviations = ("hybrid ÷ whole", "hybrid ÷ parts", "data h", "data ÷ whole")
    alone = f"{hours(1, False, LINKS[0]):.2f}"
    rows = [
        (*header, *deviations),
        ("---:",) * 9,
        ("1", "any", f"{ONE_GPU}", "–", alone, "calibrated", "–", alone, "calibrated"),
        *(_row(gpus, link) for link in LINKS for gpus in PUBLISHED),
    ]
    return "\n".join(f"| {line} |" for line in map(" | ".join, rows))


def _row(gpus: int, link: float) -> tuple[str, ...]:
    whole, parts = PUBLISHED[gpus]
    hybrid, data = hours(gpus, True, link), hours(gpus, False, link)
    return (
        *(str(gpus), f"{link:g}", f"{whole:.2f}", f"{parts:.2f}"),
        *(f"{hybrid:.2f}", f"{hybrid / whole - 1:+.1%}", f"{hybrid / parts - 1:+.1%}"),
        *(f"{data:.2f}", f"{data / whole - 1:+.1%}"),
    )
