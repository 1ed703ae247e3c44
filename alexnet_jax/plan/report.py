"""The plan as text for a terminal of 80 columns."""

from collections.abc import Mapping
from typing import Any

from alexnet_jax.cli.tables import text_table
from alexnet_jax.plan.record import missing_devices

Record = Mapping[str, Any]
TITLE = """\
Compiled for {devices} device(s): parallel.data={data}, tower={tower}, scheme={scheme};
{towers} tower(s); a batch of {batch_size} over all devices, in {accumulate_steps} part(s)."""
RINGS = """\
Sent by one device in a step, read off the compiled program. Rings of n devices
send, of an array of S bytes: all-gather and reduce-scatter S (n - 1)/n,
all-reduce 2 S (n - 1)/n."""
STEP = """\
A step of this program by the model below: {compute:.3f} ms compute + {link:.3f} ms link
= {step:.3f} ms, {images_per_second:,.0f} images/s."""
MODEL = """\
Forecast for weak scaling: {batch_size} images for each device, as in the 2014 paper,
so the batch grows with the devices. Step = compute + link, without overlap.
Compute: 2 × multiply-adds × 3 (× 2 in the first layer) at {tflops:g} sustained
TFLOP/s. Link: the bytes that a device sends, at {link:g} GB/s. Left out: norms,
pooling, the update, latency, the input. Every device computes the classifier,
in the hybrid scheme for the whole batch. Towers are divided over devices first,
the batch over the rest. Efficiency: images/s of a device ÷ those of one alone.
* marks the layout that was compiled, with {batch_size} images over all its devices."""


def plan_text(record: Record) -> str:
    """Returns the text of a plan, a record as `plan_record` makes it."""
    parts = (
        TITLE.format(**record),
        communication_text(record),
        memory_text(record),
        step_text(record),
        forecast_text(record),
    )
    return "\n\n".join(parts)


def communication_text(record: Record) -> str:
    """Returns the table of the transfers, and the sum by the program and by arithmetic."""
    header = ("collective", "on", "array", "of", "no.", "bytes sent")
    rows = [
        (
            x["collective"],
            str(x["devices"]),
            "×".join(map(str, x["shape"])) or "one number",
            x["of"],
            str(x["number"]),
            f"{x['sent_bytes']:,.0f}",
        )
        for x in record["transfers"]
    ]
    verdict = "the same arrays" if record["arithmetic_agrees"] else "NOT the same arrays"
    return "\n".join(
        (
            RINGS,
            text_table([header, *rows], left=4),
            f"Sum: {record['sent_bytes']:,.0f} bytes by {record['collectives']} collectives; XLA "
            "puts several arrays in one.",
            f"By arithmetic on the layers' sizes: {record['sent_bytes_by_arithmetic']:,.0f} bytes, "
            f"{verdict}.",
        )
    )


def memory_text(record: Record) -> str:
    """Returns the table of the bytes that one device holds."""
    # The last column has the keys of the record, whose numbers take their places below.
    rows = (
        ("held by one device", "", "bytes"),
        ("parameters", f"of {record['net_parameter_bytes']:,}", "parameter_bytes"),
        ("velocities", "the optimizer's state", "velocity_bytes"),
        ("activations", "outputs of all layers, by arithmetic", "activation_bytes"),
        ("temporaries", "XLA's count on a CPU: activations, …", "temporary_bytes"),
    )
    header, *body = rows
    return text_table([header, *((a, b, f"{record[key]:,}") for a, b, key in body)], left=2)


def step_text(record: Record) -> str:
    """Returns the forecast of the compiled step in a sentence."""
    step = record["step"]
    times = {name: 1e3 * step[f"{name}_seconds"] for name in ("compute", "link", "step")}
    return STEP.format(**times, images_per_second=step["images_per_second"])


def forecast_text(record: Record) -> str:
    """Returns the table of the schemes on 1 to 512 devices, and which numbers are missing."""
    header = ("scheme", "devices", "compute ms", "MB sent", "link ms", "step ms")
    rows = [(*header, "images/s", "efficiency")]
    compiled = [record[key] for key in ("data", "tower", "scheme")]
    notes = []
    for scheme, forecasts in record["forecasts"].items():
        for one in forecasts:
            # One layout can be that of several schemes; each of its rows is marked.
            mark = "*" if [one[key] for key in ("data", "tower", "scheme")] == compiled else ""
            rows.append(_forecast_row(scheme + mark, one))
        missing = missing_devices(forecasts)
        if missing:
            notes.append(f"{scheme}: this net does not divide over {', '.join(map(str, missing))}.")
    text = MODEL.format(
        batch_size=record["batch_size"],
        tflops=record["device_flops_per_second"] / 1e12,
        link=record["link_bytes_per_second"] / 1e9,
    )
    return "\n".join((text, text_table(rows), *notes))


def _forecast_row(scheme: str, one: Record) -> tuple[str, ...]:
    return (
        scheme,
        str(one["devices"]),
        f"{1e3 * one['compute_seconds']:.3f}",
        f"{one['sent_bytes'] / 1e6:.2f}",
        f"{1e3 * one['link_seconds']:.3f}",
        f"{1e3 * one['step_seconds']:.3f}",
        f"{one['images_per_second']:,.0f}",
        f"{one['efficiency']:.3f}",
    )
