"""Predicts what a step sends, holds and takes on devices that are not there yet.

Example:   python -m alexnet_jax.plan --config=configs/imagenet.py --devices=8
               --config.parallel.tower=2
           python -m alexnet_jax.plan --config=configs/imagenet.py
               --table=layers --format=csv

Compiles the step of --config for --devices forced CPU devices, and reads from
the program every collective, its bytes, and what one device holds. Nothing
runs. No data are needed if the config sets model.num_classes. parallel.data=1
is raised so that all --devices are used; any other layout has to make exactly
that number. The default --config is configs/base.py.

Then forecasts a step for the schemes data, tower and hybrid on 1 to 512
devices, by formulas that the tests compare with compiled programs.
data.batch_size is that of all devices in the compiled program, and that of each
device in the forecasts (weak scaling). Communication is not overlapped with
computation.

--table prints another table, and compiles nothing:
  layers   the sizes of every layer: shapes, windows, towers, parameters,
           multiply-adds, bytes
  k20      the table of "One weird trick" (2014) beside its forecast; needs no
           --config
  gtx580   the paper's net on one and on two GPUs of 3 GB; needs no --config
--format=json prints the plan or the layers as one JSON value on the last line.
"""

import json
import sys

from absl import flags
from ml_collections import ConfigDict, config_flags

from alexnet_jax.cli import command, config_flag
from alexnet_jax.errors import UserError
from alexnet_jax.runs import rules

CONFIG = "base.py"  # unless --config names another
LINK = 24.0  # GB/s; where the two defaults come from stands in the flags' help
TFLOPS = 50.0
SLOWEST, FASTEST = 1e-6, 1e6  # of both rates: beyond them the table has no meaning
FORMATS = {  # of each --table
    "": ("text", "json"),
    "layers": ("text", "json", "csv"),
    "k20": ("text",),
    "gtx580": ("text",),
}


def define_flags(values: flags.FlagValues) -> None:
    """Declares the flags other than --config."""
    own = {"flag_values": values}
    devices = "Devices to compile for; unset = parallel.data × parallel.tower."
    flags.DEFINE_integer("devices", None, devices, **own)
    link = (
        "Gigabytes (10^9 bytes, not bits) a second that a device sustains sending to its neighbour "
        "while it receives as many; the default is assumed, three quarters of PCIe 4 ×16."
    )
    flags.DEFINE_float("link_gbps", LINK, link, **own)
    tflops = (
        "TFLOP (10^12) a second that a device sustains in the layers with weights, not its peak. "
        "The default is that of an A100 in TF32 (10,187 images/s × 4.9 GFLOP in "
        "lambda-tensorflow-benchmark's logs)."
    )
    flags.DEFINE_float("device_tflops", TFLOPS, tflops, **own)
    flags.DEFINE_enum("table", "", [*FORMATS], "layers, k20 or gtx580; empty = the plan.", **own)
    formats = "text; json: one value on the last line; csv: of --table=layers."
    flags.DEFINE_enum("format", "text", ["text", "json", "csv"], formats, **own)


def check_flags(values: flags.FlagValues) -> None:
    """Raises UserError for flags that the table does not read, and for rates out of bounds."""
    if values.format not in FORMATS[values.table]:
        table = f"--table={values.table}" if values.table else "the plan"
        raise UserError(
            f"--format={values.format} is not for {table}; give "
            f"--format={' or '.join(FORMATS[values.table])}"
        )
    for name in ("devices", "link_gbps", "device_tflops"):
        if values.table and values[name].present:
            raise UserError(f"--{name} is for the plan, not --table={values.table}; leave it out")
    for name in ("link_gbps", "device_tflops"):
        # Neither is NaN, which absl reads as a float.
        if not SLOWEST <= values[name].value <= FASTEST:
            raise UserError(
                f"--{name}={values[name].value:g} has to be from {SLOWEST:g} to {FASTEST:g}"
            )


def resolved(values: flags.FlagValues) -> ConfigDict:
    """Returns the config with its devices and classes filled in.

    Raises:
      UserError: a value that cannot be, or a net and a batch that cannot be divided so.
    """
    from alexnet_jax.cli import checks
    from alexnet_jax.data import check_crop

    config = values.config
    rules.check(config)
    fill_devices(config.parallel, values.devices)
    checks.check_model(config, checks.overrides(values))
    check_crop(config.data)
    return config


def check_step(config: ConfigDict) -> None:
    """Forces the CPU devices of the step; raises UserError if it cannot be compiled for them."""
    from alexnet_jax import parallel
    from alexnet_jax.cli import net_checks

    # Before check_parallel, which counts the devices: that creates them and fixes their number.
    parallel.force_cpu_devices(config.parallel.data * config.parallel.tower)
    net_checks.check_parallel(config, ("data.batch_size",))
    net_checks.check_parts(config)
    if config.train.compute_dtype != "float32":
        raise UserError(
            f"train.compute_dtype={config.train.compute_dtype!r}: the plan is compiled for a CPU, "
            "where XLA computes and sends in float32; leave it out"
        )


def fill_devices(parallel: ConfigDict, devices: int | None) -> None:
    """Sets parallel.data, if it is 1, so that all `devices` are in use; None leaves it as it is.

    Raises:
      UserError: the layout has another number of devices.
    """
    if devices is None:
        return
    if devices < 1:
        raise UserError(f"--devices={devices} has to be at least 1")
    # 1 is the default: the user has not asked for another division of the batch.
    if parallel.data == 1 and devices % parallel.tower == 0:
        parallel.data = devices // parallel.tower
    if parallel.data * parallel.tower != devices:
        raise UserError(
            f"parallel.data={parallel.data} × parallel.tower={parallel.tower} does not make "
            f"--devices={devices}; change one of them"
        )


def layers(config: ConfigDict, form: str) -> str:
    """Returns the table of the net's layers as text, json or csv."""
    from alexnet_jax.cli.tables import text_table
    from alexnet_jax.nets.shapes import layer_table
    from alexnet_jax.nets.variants import resolve
    from alexnet_jax.plan.layers import csv_text, layer_rows

    net = resolve(config.model, config.data.crop_size)
    if form == "text":
        return text_table(layer_table(net), left=5)
    return csv_text(layer_rows(net)) if form == "csv" else json.dumps(layer_rows(net))


def plan(config: ConfigDict, values: flags.FlagValues) -> str:
    """Compiles the step and returns its plan in the format that the flags name."""
    check_step(config)
    from alexnet_jax.plan.forecast import Machine
    from alexnet_jax.plan.record import plan_record
    from alexnet_jax.plan.report import plan_text
    from alexnet_jax.train.session import abstract_session

    session = abstract_session(config)  # shapes and shardings only: nothing is allocated
    compiled, state = session.lower().compile(), session.initial_state.eval_shape()
    machine = Machine(values.link_gbps * 1e9, values.device_tflops * 1e12)
    record = plan_record(config, compiled, state, machine)
    if values.format == "json":
        return json.dumps(record)
    file = config_flags.get_config_filename(values["config"])
    return f"{file}: {config.model.name}\n{plan_text(record)}"


def main(values: flags.FlagValues) -> int:
    """Prints the plan, or the table that --table names; returns the exit code."""
    check_flags(values)
    if values.table == "k20":
        from alexnet_jax.plan.k20 import k20_text

        print(k20_text())
    elif values.table == "gtx580":
        from alexnet_jax.plan.gtx580 import gtx580_text

        print(gtx580_text())
    elif values.table == "layers":
        print(layers(resolved(values), values.format))
    else:
        print(plan(resolved(values), values))
    return 0


if __name__ == "__main__":
    sys.argv = config_flag.with_default(sys.argv, CONFIG)
    command.run(main, define_flags, __doc__, with_config=True)
