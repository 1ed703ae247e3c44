"""The reason for the paper's two GPUs: memory and time of its net on one and on two GTX 580."""

from alexnet_jax.cli.tables import markdown_table
from alexnet_jax.nets.flops import flops_per_image, step_flops
from alexnet_jax.nets.spec import Net
from alexnet_jax.nets.variants import published
from alexnet_jax.parallel import Layout
from alexnet_jax.plan.memory import gathered_bytes, output_bytes, parameter_bytes

COMMAND = "python -m alexnet_jax.plan --config=configs/imagenet.py --table=gtx580"
BATCH = 128  # images, paper §5
CAPACITY = 3 * 2**30  # bytes, paper §3.2: 3 GB
PEAK = 1.58e12  # FLOP/s in float32, as remembered
CLASSES = 1000
IMAGES = 90 * 1.2e6  # paper §5: about 90 epochs of 1.2 million images
DAYS = (5, 6)  # paper §5, on two GPUs
ONE, TWO = Layout(), Layout(tower=2)
ROWS = (
    "parameters",
    "gradients of the parameters",
    "velocities",
    "outputs of all layers",
    "gradients of the outputs, if all are kept",
    "inputs gathered from the other GPU",
)
TEXT = """\
# Why two GPUs? The paper's net in 3 GB

`{command}`

The paper trained `alexnet` in batches of {batch} images on two GTX 580 with 3 GB each, one tower on
each, in five to six days (paper, §3.2 and §5). The table has what a GPU then holds by the
arithmetic of `plan` (float32, MiB = 2^20 bytes), and what a single GPU with both towers would hold.

{table}

- **Memory.** By this arithmetic the net fits on one GPU and leaves {left:.0f} % of its memory. The
  arithmetic leaves out the images that wait on the GPU, the norms' denominators, scratch memory of
  the 2012 program and the display, so the true margin was smaller. On two GPUs each holds about
  half: there is room for a larger net, and the paper says that 3 GB limit the size of the net.
- **Time.** A step has {ratio:.2f} times the FLOPs on one GPU ({gflop:.2f} GFLOP an image). At the
  same speed one GPU would take {first:.1f} to {last:.1f} days, less what two lose by communication.
- **Speed.** Five to six days are {low:.2f} to {high:.2f} TFLOP/s sustained on each GPU, which is
  {share_low:.0f} to {share_high:.0f} % of a peak of {peak:.2f} TFLOP/s. The peak is **as
  remembered, not verified**.
"""


def memory_parts(net: Net, layout: Layout, batch: int) -> tuple[int, ...]:
    """Returns the bytes that one GPU holds of each of ROWS, for `batch` images over all GPUs."""
    parameters, outputs = parameter_bytes(net, layout), output_bytes(net, layout, batch)
    # In the order of ROWS.
    return (*[parameters] * 3, *[outputs] * 2, gathered_bytes(net, layout, batch))


def largest_batch(net: Net, layout: Layout) -> int:
    """Returns the number of images in the largest batch that fits into a GPU's memory."""
    # Parameters, gradients and velocities do not grow with the batch; the rest is in proportion.
    fixed = sum(memory_parts(net, layout, 0))
    return (CAPACITY - fixed) // (sum(memory_parts(net, layout, 1)) - fixed)


def sustained(net: Net, days: float) -> float:
    """Returns the FLOP/s that each of two GPUs sustains if the paper's training takes `days`."""
    return IMAGES * step_flops(net, TWO, BATCH) / BATCH / (86_400 * days)


def gtx580_text() -> str:
    """Returns the answer as Markdown: results/plan/gtx580.md."""
    net = published("alexnet", CLASSES)
    ratio = step_flops(net, ONE, BATCH) / step_flops(net, TWO, BATCH)
    low, high = (sustained(net, days) for days in reversed(DAYS))  # more days, fewer FLOP/s
    return TEXT.format(
        command=COMMAND,
        batch=BATCH,
        table=_table(net),
        left=100 * (1 - sum(memory_parts(net, ONE, BATCH)) / CAPACITY),
        ratio=ratio,
        gflop=flops_per_image(net) / 1e9,
        first=ratio * DAYS[0],
        last=ratio * DAYS[1],
        low=low / 1e12,
        high=high / 1e12,
        share_low=100 * low / PEAK,
        share_high=100 * high / PEAK,
        peak=PEAK / 1e12,
    ).rstrip()


def _table(net: Net) -> str:
    columns = [memory_parts(net, layout, BATCH) for layout in (ONE, TWO)]
    sums = [sum(column) for column in columns]
    rows = [
        ("MiB on each GPU", "one GPU, both towers", "two GPUs, a tower each"),
        *((name, *map(_mebibytes, sizes)) for name, *sizes in zip(ROWS, *columns, strict=True)),
        ("sum", *map(_mebibytes, sums)),
        ("sum ÷ 3 GB", *(f"{x / CAPACITY:.2f}" for x in sums)),
        ("largest batch that fits, images", *(str(largest_batch(net, x)) for x in (ONE, TWO))),
    ]
    return markdown_table(rows)


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f}"
