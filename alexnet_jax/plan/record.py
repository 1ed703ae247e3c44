"""The plan of a compiled step as plain data: what it sends and holds, and the forecasts.

`plan.report` prints it for people; `--format=json` prints it as it is.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from alexnet_jax.nets.spec import Net
from alexnet_jax.nets.variants import resolve
from alexnet_jax.parallel import Layout, layout_of
from alexnet_jax.plan.forecast import (
    DEVICES,
    SCHEMES,
    Forecast,
    Machine,
    efficiency,
    forecast,
    forecasts,
)
from alexnet_jax.plan.hlo import Transfer, read_transfers
from alexnet_jax.plan.memory import output_bytes, parameter_bytes
from alexnet_jax.plan.traffic import agree, expected_transfers, key, wire_bytes

Record = dict[str, Any]


def plan_record(config: ConfigDict, compiled: Any, state: Any, machine: Machine) -> Record:
    """Returns the plan of one step.

    Args:
      config: resolved.
      compiled: the step, a jax.stages.Compiled.
      state: the training state as shapes and shardings.
      machine: that the forecasts are for.
    """
    net, layout = resolve(config.model, config.data.crop_size), layout_of(config.parallel)
    batch, parts = config.data.batch_size, config.train.accumulate_steps
    found = read_transfers(compiled.as_text())
    alone = forecast(net, Layout(), batch, machine)  # the batch of each device in weak scaling
    return {
        "model": config.model.name,
        "towers": net.towers,
        "batch_size": batch,
        "accumulate_steps": parts,
        **layout_record(layout),
        **communication(found, expected_transfers(net, layout, batch, parts)),
        # The parts of a batch follow one another: the activations of one are held at a time.
        **memory(net, layout, batch // parts, compiled, state),
        "link_bytes_per_second": machine.link,
        "device_flops_per_second": machine.flops,
        "step": forecast_record(forecast(net, layout, batch, machine)),
        "forecasts": {
            scheme: [
                forecast_record(one) | {"efficiency": efficiency(one, alone)}
                for one in forecasts(net, scheme, batch, machine)
            ]
            for scheme in SCHEMES
        },
    }


def layout_record(layout: Layout) -> Record:
    """Returns the numbers of devices of a layout."""
    return {
        "devices": layout.devices,
        "data": layout.data,
        "tower": layout.tower,
        "scheme": "hybrid" if layout.hybrid else "plain",
    }


def communication(found: Sequence[Transfer], expected: Sequence[Transfer]) -> Record:
    """Returns the transfers of a compiled step, named and checked by those of the arithmetic.

    Transfers of the same name and size share an entry. A transfer that the arithmetic does not
    expect keeps the name that the program gives it.

    Args:
      found: read from the compiled program.
      expected: by arithmetic on the layers' sizes.
    """
    names = defaultdict(list)
    for transfer in expected:
        names[key(transfer)].append(transfer.what)
    groups = defaultdict(list)
    for transfer in found:
        unused = names[key(transfer)]
        # Equal keys are interchangeable, so any order of names will do.
        name = unused.pop(0) if unused else transfer.what
        groups[key(transfer), name].append(transfer)
    return {
        "transfers": [_transfer_record(name, group) for (_, name), group in groups.items()],
        # XLA moves several arrays in one collective.
        "collectives": len({transfer.name for transfer in found}),
        "sent_bytes": wire_bytes(found),
        "sent_bytes_by_arithmetic": wire_bytes(expected),
        "arithmetic_agrees": agree(found, expected),
    }


def _transfer_record(name: str, group: Sequence[Transfer]) -> Record:
    first = group[0]
    return {
        "collective": first.kind,
        "devices": first.group,
        "shape": list(first.shape),
        "of": name,
        "array_bytes": first.elements * first.itemsize,
        "number": len(group),
        "sent_bytes": wire_bytes(group),
    }


def memory(net: Net, layout: Layout, images: int, compiled: Any, state: Any) -> Record:
    """Returns the bytes that one device holds, by the state's shardings, arithmetic and XLA.

    Args:
      net: resolved.
      layout: of the devices.
      images: number that all devices together work on at a time.
      compiled: the step.
      state: the training state as shapes and shardings.
    """
    return {
        "net_parameter_bytes": parameter_bytes(net, Layout()),
        "parameter_bytes": local_bytes(state.params),
        "velocity_bytes": local_bytes(state.opt_state),
        "activation_bytes": output_bytes(net, layout, images),
        # Without the step's arguments and results, which are the state and the batch.
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
    }


def local_bytes(tree: Any) -> int:
    """Returns the bytes that one device holds of the arrays of a tree, by their shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def forecast_record(one: Forecast) -> Record:
    """Returns the numbers of a forecast."""
    return {
        **layout_record(one.layout),
        "batch_size": one.batch,
        "compute_seconds": one.compute,
        "sent_bytes": one.sent,
        "link_seconds": one.link,
        "step_seconds": one.seconds,
        "images_per_second": one.images_per_second,
    }


def missing_devices(forecasts: Sequence[Record]) -> list[int]:
    """Returns the numbers of devices that a scheme has no forecast for."""
    return sorted({*DEVICES} - {one["devices"] for one in forecasts})  # DEVICES: 1, 2, 4, … 512
