"""The command `plan`: its text, its JSON and its layers."""

import contextlib
import csv
import io
import json
import re

import pytest
from commands import TOP, run

from alexnet_jax.cli import command
from alexnet_jax.nets.variants import resolve
from alexnet_jax.parallel import Layout
from alexnet_jax.plan import __main__ as plan
from alexnet_jax.plan.forecast import (
    DEVICES,
    Machine,
    forecast,
)
from alexnet_jax.plan.layers import layer_rows
from alexnet_jax.plan.memory import output_bytes, parameter_bytes
from alexnet_jax.plan.traffic import expected_transfers, wire_bytes
from configs import base

BASE = ("--config=configs/base.py", "--config.model.width=0.0625")


def base_model():
    """config.model of BASE, with its classes filled in."""
    model = base.get_config().model
    model.width, model.num_classes = 0.0625, 10
    return model


@pytest.mark.parametrize(
    ("env", "unused"),
    [({}, False), pytest.param({"JAX_NUM_CPU_DEVICES": "9"}, True, marks=pytest.mark.slow)],
)
def test_the_command_prints_the_plan(env, unused):
    """The user's number of devices is kept if it suffices, and raised if not."""
    env = {"JAX_NUM_CPU_DEVICES": "2", **env}
    out = run("plan", *BASE, "--devices=8", "--config.parallel.tower=2", env=env).stdout
    assert "parallel.data=4, tower=2" in out
    sent = re.search(r"^Sum: ([\d,]+) bytes", out, re.MULTILINE)
    assert f"sizes: {sent[1]} bytes, the same arrays" in out
    assert len(re.findall(r"^(?:data|tower|hybrid)\*? +\d+ ", out, re.MULTILINE)) == 10 + 10 + 8
    assert len(re.findall(r"^tower\* +8 ", out, re.MULTILINE)) == out.count("* ") - 1 == 1
    assert ("not used: " in out) == unused
    assert all(len(line) <= 80 for line in out.splitlines()[1:]), out


def printed(*arguments):
    """Returns what the command prints, run in this process."""
    values = command.parse(["plan", *BASE, *arguments], plan.define_flags, with_config=True)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert plan.main(values) == 0
    return out.getvalue()


@pytest.mark.parametrize("table", ["k20", "gtx580"])
def test_tables_of_the_past_are_printed_as_recorded(table):
    assert printed(f"--table={table}") == (TOP / f"results/plan/{table}.md").read_text()


@pytest.mark.slow
def test_json_has_the_numbers_of_the_text():
    out = run("plan", *BASE, "--format=json", "--devices=2", "--config.parallel.tower=2").stdout
    record = json.loads(out.splitlines()[-1])
    net, layout = resolve(base_model(), 64), Layout(tower=2)
    assert (record["devices"], record["tower"], record["scheme"]) == (2, 2, "plain")
    assert record["arithmetic_agrees"]
    assert record["sent_bytes"] == wire_bytes(expected_transfers(net, layout, 32))
    assert record["parameter_bytes"] == record["velocity_bytes"] == parameter_bytes(net, layout)
    assert record["activation_bytes"] == output_bytes(net, layout, 32)
    assert record["temporary_bytes"] > 0
    machine = Machine(link=24e9, flops=50e12)
    step, weak = (forecast(net, layout, batch, machine) for batch in (32, 64))
    assert record["step"]["step_seconds"] == step.seconds
    assert record["forecasts"]["tower"][1]["images_per_second"] == weak.images_per_second
    assert [x["devices"] for x in record["forecasts"]["data"]] == list(DEVICES)


@pytest.mark.parametrize("form", ["json", "csv"])
def test_layers_are_printed_for_other_programs(form):
    out = printed("--table=layers", f"--format={form}")
    rows = json.loads(out) if form == "json" else list(csv.DictReader(io.StringIO(out)))
    expected = layer_rows(resolve(base_model(), 64))
    if form == "csv":
        expected = [{key: str(value) for key, value in row.items()} for row in expected]
    assert rows == expected


@pytest.mark.parametrize(
    "setting", ["train.compute_dtype=bfloat16", "parallel.data=512"], ids=["dtype", "devices"]
)
def test_layers_do_not_depend_on_the_step(setting):
    """Nothing is compiled; 512 are more devices than this process has."""
    batches = ("--config.data.batch_size=512", "--config.eval.batch_size=512")
    assert printed("--table=layers", f"--config.{setting}", *batches) == printed("--table=layers")


def test_layers_are_printed_as_text():
    out = printed("--table=layers")
    assert out.splitlines()[0].startswith("layer ") and out.splitlines()[-1].startswith("total ")


def test_help_names_the_units():
    out = command.help_text(plan.define_flags, plan.__doc__, with_config=True)
    assert "10^9 bytes, not bits" in out and "TFLOP (10^12) a second" in out
    assert "--devices=8" in out
