"""Measures how cost grows with batch size, width, devices and images.

Example:   python launch/growth.py --output=runs/growth
           python launch/growth.py --output=runs/growth --points=batch=1,512
               --points=devices=2

Measured are time, memory and start-up. Writes growth.jsonl (one line for each
point), growth.md (tables) and growth.png. It runs the commands benchmark and
plan, one point at a time; all points take about ten minutes on two cores:

batch, width   configs/base.py (the two-tower net on 64 pixels, a quarter of the
               width by default) from a temporary store of 1,024 images that
               stays on the device
devices        the same net with a batch of 48, by `plan`: bytes that one device
               holds and sends
images         cuda_convnet_18pct on records of 2.7 kB, streamed from the disk

Beside each cost stands its cause (images, FLOPs of an image, devices) and the
power p of the growth since the point before, cost ∝ cause^p. Above 1 the cost
grew faster than its cause.
"""

from checkout import TOP  # first: one error line if .venv is not active

# isort: split
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from alexnet_jax.cli import command
from alexnet_jax.cli.tables import markdown_table
from alexnet_jax.errors import UserError

BASE = "--config=configs/base.py"  # relative to the checkout, in which the commands are run
AXES: dict[str, tuple[float, ...]] = {
    "batch": (1, 4, 16, 64, 128, 256, 512),
    "width": (0.125, 0.25, 0.5, 1.0),
    "devices": (1, 2, 3, 4),
    "images": (1_000, 10_000, 100_000, 1_000_000),
}
BRIEFLY = (
    "--repeats=1",
    "--seconds=0.5",
    "--config.data.name=synthetic",
    "--config.optim.learning_rate=1e-6",  # no batch size diverges
)
COSTS = {  # key: unit
    "step_ms": "ms for a step",
    "peak_mb": "MB at the peak, resident",
    "first_step_s": "s to the first step, cold",
    "second_start_s": "s to the first step, second start",
    "compile_s": "s to compile the plan",
    "held_mb": "MB that one device holds",
    "sent_mb": "MB that one device sends in a step",
}


def define_flags(values: flags.FlagValues) -> None:
    """Declares the flags: the output folder and the points."""
    own = {"flag_values": values}
    flags.DEFINE_string("output", "runs/growth", "Folder for the table and the plot.", **own)
    points = "axis=value,value: only these points; repeat the flag for more; unset = all."
    flags.DEFINE_multi_string("points", [], points, **own)


def chosen(points: Sequence[str]) -> list[tuple[str, float]]:
    """Returns the points (axis, value) that --points names.

    Raises:
      UserError: an unknown axis, or a value that is no positive number.
    """
    if not points:
        return [(axis, value) for axis, values in AXES.items() for value in values]
    found = []
    for text in points:
        axis, _, values = text.partition("=")
        try:
            numbers = [float(value) for value in values.split(",")]
        except ValueError:
            numbers = []
        # Only a width may be a fraction.
        integral = axis == "width" or all(x == round(x) for x in numbers)
        if axis not in AXES or not numbers or not integral or not all(0 < x < 1e9 for x in numbers):
            raise UserError(
                f"--points={text} is no axis ({', '.join(AXES)}) with values; write "
                "--points=batch=1,512"
            )
        found += [(axis, number) for number in numbers]
    return found


def arguments_of(axis: str, value: float) -> list[str]:
    """Returns the command, a module and its flags, that measures this point."""
    number = f"{value:g}" if axis == "width" else str(round(value))
    if axis == "batch":
        return ["benchmark", BASE, *BRIEFLY, f"--config.data.batch_size={number}"]
    if axis == "width":
        return ["benchmark", BASE, *BRIEFLY, f"--config.model.width={number}"]
    if axis == "devices":
        return ["plan", BASE, "--format=json", "--config.data.batch_size=48", f"--devices={number}"]
    return [
        "benchmark",
        "--config=configs/cifar10.py",
        *BRIEFLY,
        f"--config.data.synthetic_images={number}",
        "--config.data.device_megabytes=0",
        "--config.data.image_size=30",
        "--config.data.crop_size=28",
    ]


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Runs the command with an empty compilation cache; returns its record, the last line.

    Raises:
      UserError: the command failed; with the end of its error output.
    """
    module, *rest = arguments
    # An empty cache for each point: the first start is then a cold one.
    with tempfile.TemporaryDirectory(prefix="alexnet_growth-") as cache:
        done = subprocess.run(
            [sys.executable, "-m", f"alexnet_jax.{module}", *rest],
            cwd=TOP,
            capture_output=True,
            text=True,
            env={**os.environ, "JAX_COMPILATION_CACHE_DIR": cache},
        )
    if done.returncode:
        raise UserError(f"{' '.join(arguments)} failed: {done.stderr[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def benchmark_costs(record: dict[str, Any]) -> dict[str, float]:
    """Returns the costs of a point from the JSON record of `benchmark`, by the keys of COSTS."""
    return {
        "step_ms": 1e3 * record["batch_size"] / record["step_images_per_second"],
        "peak_mb": record["peak_rss_mb"],
        "first_step_s": record["first_step_seconds"],
        "second_start_s": record["second_start_seconds"],
    }


def plan_costs(record: dict[str, Any], seconds: float) -> dict[str, float]:
    """Returns the costs of a point from the JSON record of `plan` and the seconds that it took."""
    held = ("parameter_bytes", "velocity_bytes", "temporary_bytes")
    return {
        "held_mb": sum(record[key] for key in held) / 1e6,
        "sent_mb": record["sent_bytes"] / 1e6,
        "compile_s": seconds,
    }


def measure(axis: str, value: float) -> dict[str, Any]:
    """Measures one point; returns its axis, value, cause and costs."""
    start = time.perf_counter()
    record = run(arguments_of(axis, value))
    seconds = time.perf_counter() - start
    costs = plan_costs(record, seconds) if axis == "devices" else benchmark_costs(record)
    # Not the width itself: the FLOPs of most layers grow with its square.
    cause = record["training_flops_per_image"] if axis == "width" else value
    numbers = {"cause": cause, **costs}
    return {"axis": axis, "value": value, **{k: float(f"{x:.4g}") for k, x in numbers.items()}}


def power(before: dict[str, Any], point: dict[str, Any], cost: str) -> float:
    """Returns p in cost ∝ cause^p between two points; 0 if the cost does not rise."""
    # One device sends nothing, and a growth from 0 has no power.
    rise = point[cost] / before[cost] if before[cost] > 0 else 1.0
    return max(0.0, math.log(rise)) / math.log(point["cause"] / before["cause"])


def tables(points: Sequence[dict[str, Any]]) -> str:
    """Returns a Markdown table for each axis; in brackets the power since the row above."""
    sections = []
    for axis in dict.fromkeys(point["axis"] for point in points):
        rows = [point for point in points if point["axis"] == axis]
        costs = [cost for cost in COSTS if cost in rows[0]]
        cells = [(axis, "cause", *(COSTS[cost] for cost in costs))]
        for before, row in zip([None, *rows[:-1]], rows, strict=True):
            powers = [f" ({power(before, row, cost):.2f})" if before else "" for cost in costs]
            numbers = [f"{row[cost]:g}{p}" for cost, p in zip(costs, powers, strict=True)]
            cells.append((f"{row['value']:g}", f"{row['cause']:g}", *numbers))
        sections.append(f"## {axis}\n\n{markdown_table(cells, left=0)}")
    return "\n\n".join(sections) + "\n"


def plot(points: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws a panel for each axis: costs over the cause, both as multiples of the first point's."""
    from matplotlib.figure import Figure

    axes = list(dict.fromkeys(point["axis"] for point in points))
    figure = Figure(figsize=(4.5 * len(axes), 4.2), layout="constrained")
    for panel, axis in zip(figure.subplots(1, len(axes), squeeze=False)[0], axes, strict=True):
        rows = [point for point in points if point["axis"] == axis]
        causes = [row["cause"] / rows[0]["cause"] for row in rows]
        panel.loglog(causes, causes, "--", color="grey", label="the cause")
        for cost in COSTS:
            if rows[0].get(cost, 0) > 0:
                label = f"{COSTS[cost]} (from {rows[0][cost]:g})"
                panel.loglog(causes, [row[cost] / rows[0][cost] for row in rows], "o-", label=label)
        panel.set(title=axis, xlabel="cause ÷ the first point's", ylabel="cost ÷ the first point's")
        panel.legend(fontsize="x-small")
    figure.savefig(path, dpi=120)


def main(values: flags.FlagValues) -> int:
    """Measures every point, writes the lines, tables and plot, and returns the exit code."""
    output = Path(values.output)
    points = chosen(values.points)
    from alexnet_jax.cli.checks import check_writable

    check_writable(output, "output")
    output.mkdir(parents=True, exist_ok=True)
    found = []
    # Each line is written at once, so that an interruption loses only one point.
    with (output / "growth.jsonl").open("w") as file:
        for axis, value in points:
            found.append(measure(axis, value))
            print(json.dumps(found[-1]), file=file, flush=True)
            print(json.dumps(found[-1]), flush=True)
    (output / "growth.md").write_text(tables(found))
    plot(found, output / "growth.png")
    print(f"tables and plot: {output}/growth.md, {output}/growth.png")
    return 0


if __name__ == "__main__":
    command.run(main, define_flags, __doc__)
