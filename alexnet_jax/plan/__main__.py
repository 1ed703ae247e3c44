"""Tells what the training step will communicate, hold and take on N devices, before renting them.

Example:   python -m alexnet_jax.plan --config=configs/imagenet.py --devices=8
               --config.parallel.tower=2
           python -m alexnet_jax.plan --config=configs/imagenet.py --table=k20

Compiles the step of --config for --devices forced CPU devices and reads off the program every
collective, its bytes, and what one device holds. Nothing runs; no data is needed if the config says
model.num_classes. parallel.data=1 is raised to use all --devices; any other layout has to use them.

Then forecasts a step for the schemes data, tower and hybrid on 1 to 512 devices, by the formulas
that are checked against the compiled program: data.batch_size is that of all devices in the program
that is compiled, and of each device in the forecasts (weak scaling). Communication is not
overlapped with computation.

--table=k20 forecasts the table of "One weird trick" (2014) instead, of its own net and batch.
"""

import math

from absl import flags
from ml_collections import ConfigDict, config_flags

from alexnet_jax.cli import command, rules
from alexnet_jax.errors import UserError

LINK = 24.0
TFLOPS = 50.0


def define_flags(values: flags.FlagValues) -> None:
    """The flags besides --config."""
    devices = "Devices to compile for; unset = parallel.data × parallel.tower."
    flags.DEFINE_integer("devices", None, devices, flag_values=values)
    link = (
        "Gigabytes (10^9 bytes, not bits) a second that a device sustains sending to its neighbour "
        f"while it receives as many. Default {LINK:g}: assumed, three quarters of PCIe 4 ×16."
    )
    flags.DEFINE_float("link_gbps", LINK, link, flag_values=values)
    tflops = (
        "TFLOP (10^12) a second that a device sustains in the layers with weights, not its peak. "
        f"Default {TFLOPS:g}: an A100 in TF32 (10,187 images/s × 4.9 GFLOP in "
        "lambda-tensorflow-benchmark's logs)."
    )
    flags.DEFINE_float("device_tflops", TFLOPS, tflops, flag_values=values)
    table = "k20: the published 8×K20 table beside its forecast; no other flag counts then."
    flags.DEFINE_enum("table", "", ["", "k20"], table, flag_values=values)


def check(values: flags.FlagValues) -> ConfigDict:
    """The config with its devices and classes filled in.

    Raises:
      UserError: a value that cannot be, or a net and a batch that cannot be divided so.
    """
    config = values.config
    rules.check(config)
    for name in ("link_gbps", "device_tflops"):
        if not (math.isfinite(values[name].value) and values[name].value > 0):
            raise UserError(f"--{name}={values[name].value:g} has to be more than 0 and finite")
    fill_devices(config.parallel, values.devices)
    from alexnet_jax import parallel
    from alexnet_jax.cli import checks
    from alexnet_jax.data import check_available, summary
    from alexnet_jax.nets.placement import check_layout
    from alexnet_jax.nets.variants import resolve

    if config.model.num_classes is None:
        check_available(config.data)
        checks.fill_classes(config, summary(config.data).num_classes)
    if config.data.crop_size > config.data.image_size:
        raise UserError(
            f"data.crop_size={config.data.crop_size} is larger than the stored images, "
            f"data.image_size={config.data.image_size}; lower the crop"
        )
    checks.check_net(config)
    net = resolve(config.model, config.data.crop_size)
    layout, sizes = parallel.layout_of(config.parallel), {"data.batch_size": config.data.batch_size}
    check_layout(layout, net, sizes)
    checks.check_parts(config)
    if config.train.compute_dtype != "float32":
        raise UserError(
            f"train.compute_dtype={config.train.compute_dtype!r}: the plan is compiled for a CPU, "
            "where XLA computes and sends in float32; leave it out"
        )
    return config


def fill_devices(parallel: ConfigDict, devices: int | None) -> None:
    """Raises parallel.data=1 until `devices` are in use; UserError if they cannot be."""
    if devices is None:
        return
    if devices < 1:
        raise UserError(f"--devices={devices} has to be at least 1")
    if parallel.data == 1 and devices % parallel.tower == 0:
        parallel.data = devices // parallel.tower
    if parallel.data * parallel.tower != devices:
        raise UserError(
            f"parallel.data={parallel.data} × parallel.tower={parallel.tower} does not make "
            f"--devices={devices}; change one of them"
        )


def force_cpu_devices(count: int) -> None:
    """Makes jax see at least `count` CPU devices; it must not have looked for devices yet."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    if jax.config.jax_num_cpu_devices < count:  # JAX_NUM_CPU_DEVICES of the user stays if it can
        jax.config.update("jax_num_cpu_devices", count)


def main(values: flags.FlagValues) -> int:
    """Prints the plan, or the table that was asked for; returns the exit code."""
    if values.table == "k20":
        from alexnet_jax.plan.k20 import report as k20_report

        print(k20_report())
        return 0
    config = check(values)
    force_cpu_devices(config.parallel.data * config.parallel.tower)
    from alexnet_jax.plan.forecast import Machine
    from alexnet_jax.plan.report import report
    from alexnet_jax.session import abstract_session

    session = abstract_session(config)
    compiled, state = session.lower().compile(), session.initial_state.eval_shape()
    machine = Machine(values.link_gbps * 1e9, values.device_tflops * 1e12)
    print(f"{config_flags.get_config_filename(values['config'])}: {config.model.name}")
    print(report(config, compiled, state, machine))
    return 0


if __name__ == "__main__":
    command.run(main, define_flags, __doc__, with_config=True)
