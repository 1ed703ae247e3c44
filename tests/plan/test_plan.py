"""The plan: its reading of a compiled program, its arithmetic, and the command."""

import contextlib
import csv
import io
import itertools
import json
import re

import pytest
from commands import TOP, run
from devices import small

from alexnet_jax.cli import command
from alexnet_jax.nets.flops import step_flops
from alexnet_jax.nets.shapes import without_statistics
from alexnet_jax.nets.variants import published, resolve
from alexnet_jax.parallel import Layout, layout_of
from alexnet_jax.plan import __main__ as plan
from alexnet_jax.plan import gtx580, k20
from alexnet_jax.plan.forecast import (
    DEVICES,
    Machine,
    efficiency,
    forecast,
    forecasts,
    scheme_layout,
)
from alexnet_jax.plan.hlo import Transfer, read_transfers
from alexnet_jax.plan.layers import layer_rows
from alexnet_jax.plan.memory import gathered_bytes, output_bytes, parameter_bytes
from alexnet_jax.plan.record import communication, local_bytes
from alexnet_jax.plan.report import communication_text
from alexnet_jax.plan.traffic import agree, expected_transfers, wire_bytes
from alexnet_jax.session import abstract_session
from configs import base, imagenet

# Eight devices. A combined all-reduce of six arrays, an asynchronous all-gather of two (the start's
# type tells operands and results), a plain reduce-scatter, an asynchronous one wrapped in a
# computation, a permutation, groups in the counted form and in none, and a decoy in a name.
HLO = """\
HloModule jit_step, is_scheduled=true, entry_computation_layout={()->f32[]}, num_partitions=8

%wrapped (p: f32[16,8]) -> f32[4,8] {
  %p = f32[16,8]{1,0} parameter(0)
  ROOT %rs.2 = f32[4,8]{1,0} reduce-scatter(%p), channel_id=4, replica_groups=[2,4]<=[8], \
dimensions={0}, to_apply=%add
}

ENTRY %main () -> f32[] {
  %all-reduce.6 = (f32[3]{0}, f32[11,11,3,3]{3,2,1,0}, bf16[4]{0}, f32[], f32[2]{0}, \
/*index=5*/f32[5]{0}) all-reduce(%a, %b, %c, %d, %e, /*index=5*/%f), channel_id=1, \
replica_groups={{0,2},{1,3},{4,6},{5,7}}, to_apply=%add, metadata={op_name="jit(step)/psum"}
  %ag = ((f32[4,8]{1,0}, s32[2]{0}), (f32[16,8]{1,0}, s32[8]{0})) all-gather-start(%g, %h), \
channel_id=2, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}, metadata={op_name="gather"}
  %done = (f32[16,8]{1,0}, s32[8]{0}) all-gather-done(((f32[4,8]{1,0}, s32[2]{0}), \
(f32[16,8]{1,0}, s32[8]{0})) %ag)
  %rs.1 = f32[32,128]{0,1:T(8,128)} reduce-scatter(%i), replica_groups={{0,1},{2,3},{4,5},{6,7}}, \
dimensions={1}, to_apply=%add
  %async = ((f32[16,8]), f32[4,8]) async-start(%j), calls=%wrapped
  %async-done = f32[4,8]{1,0} async-done(%async)
  %cp = f32[10]{0} collective-permute(%k), source_target_pairs={{0,1},{1,0}}
  %ar.1 = f32[8]{0} all-reduce-start(%l), replica_groups={}, to_apply=%add
  %ar.2 = f32[8]{0} all-reduce-done(%ar.1)
  ROOT %add.1 = f32[] add(%d, %d), metadata={op_name="of = f32[9] all-reduce(%x)"}
}
"""


def test_reads_tuples_and_asynchronous_pairs():
    """Bytes on the wire, counted by hand."""
    assert [(x.kind, x.group, x.shape, x.wire_bytes) for x in read_transfers(HLO)] == [
        ("reduce-scatter", 4, (16, 8), 16 * 8 * 4 * 3 / 4),
        ("all-reduce", 2, (3,), 12),
        ("all-reduce", 2, (11, 11, 3, 3), 4356),
        ("all-reduce", 2, (4,), 8),  # bfloat16
        ("all-reduce", 2, (), 4),
        ("all-reduce", 2, (2,), 8),
        ("all-reduce", 2, (5,), 20),
        ("all-gather", 4, (16, 8), 384),
        ("all-gather", 4, (8,), 24),
        ("reduce-scatter", 2, (32, 256), 32 * 256 * 4 / 2),
        ("collective-permute", 2, (10,), 40),
        ("all-reduce", 8, (8,), 56),
    ]


def test_instructions_keep_their_names():
    found = read_transfers(HLO)
    assert {x.what for x in found if x.kind == "all-gather"} == {"gather"}
    assert len({x.name for x in found}) == 6


@pytest.mark.parametrize(
    ("axes", "group"), [("'tower'", 2), ("'data'", 4), ("'data','tower'", 8), ("'tower','data'", 8)]
)
def test_groups_may_be_named_by_the_axes_of_a_mesh(axes, group):
    """As jaxlib 0.12 writes them."""
    groups = f"replica_groups=mesh['data'=4,'tower'=2] {{{axes}}}"
    (found,) = read_transfers(f"  %x = f32[16]{{0}} all-reduce(%y), {groups}, to_apply=%add\n")
    assert found.group == group
    assert found.wire_bytes == 2 * 16 * 4 * (group - 1) / group


@pytest.mark.parametrize(
    "rest",
    [
        "replica_groups=?, dimensions={0}",
        "replica_groups={{0,1}}, to_apply=%add",
        "replica_groups=mesh['data'=4] {'data':(2)2}, dimensions={0}",
    ],
)
def test_an_unknown_form_is_not_passed_over(rest):
    with pytest.raises(ValueError, match=r"unknown form|without its dimension"):
        read_transfers(f"  %x = f32[4]{{0}} reduce-scatter(%y), {rest}\n")


# --- the compiled step of a small net ----------------------------------------------------------

LAYOUTS = {
    "alone": ("alexnet", {}),
    "data": ("alexnet", {"data": 4}),
    "tower": ("alexnet", {"tower": 2}),
    "tower and data": ("alexnet", {"data": 4, "tower": 2}),
    "hybrid": ("alexnet", {"data": 4, "scheme": "hybrid"}),
    "hybrid towers": ("alexnet", {"data": 2, "tower": 2, "scheme": "hybrid"}),
    "hybrid one tower": ("one_weird_trick", {"data": 8, "scheme": "hybrid"}),
    "conv6": ("alexnet_conv6", {"tower": 2}),
    "no exchange before fc6": ("alexnet", {"data": 2, "tower": 2, "scheme": "hybrid"}),
    "four towers": ("alexnet", {"data": 2, "tower": 2}),
    "towers in parts": ("alexnet", {"data": 4, "tower": 2}),
    "hybrid in parts": ("alexnet", {"data": 4, "scheme": "hybrid"}),
    "batch norm": ("alexnet_batch_norm", {"data": 4, "tower": 2}),
    "hybrid batch norm": ("alexnet_batch_norm", {"data": 2, "tower": 2, "scheme": "hybrid"}),
    "unshared": ("cuda_convnet_11pct", {"data": 2, "scheme": "hybrid"}),
}


def config_of(name):
    net, layout = LAYOUTS[name]
    config = small(net, **layout)
    if name == "no exchange before fc6":
        config.model.exchange = ("conv3", "fc7", "fc8")
    if name == "four towers":
        config.model.towers, config.model.width = 4, 1 / 8
    if "in parts" in name:
        config.train.accumulate_steps = 2
    if name == "unshared":
        config.data.crop_size = 24
    return config


def compiled_step(config):
    """The compiled step and its abstract state."""
    session = abstract_session(config)
    return session.lower().compile(), session.initial_state.eval_shape()


def sizes(config):
    return (
        resolve(config.model, config.data.crop_size),
        layout_of(config.parallel),
        config.data.batch_size,
        config.train.accumulate_steps,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_arithmetic_equals_the_compiled_program(name):
    """Both have the same arrays in the same kinds of collectives, and so the same bytes."""
    config = config_of(name)
    compiled, state = compiled_step(config)
    found, expected = read_transfers(compiled.as_text()), expected_transfers(*sizes(config))
    assert agree(found, expected), communication_text(communication(found, expected))
    assert wire_bytes(found) == wire_bytes(expected)
    net, layout, *_ = sizes(config)
    assert local_bytes(state.params) == parameter_bytes(net, layout)
    assert local_bytes(state.opt_state) == local_bytes(without_statistics(state.params))


def test_a_difference_is_reported():
    found, expected = [Transfer("all-gather", 2, (4,))], [Transfer("all-reduce", 2, (4,))]
    assert not agree(found, expected)
    assert "NOT the same arrays" in communication_text(communication(found, expected))


def test_transfers_of_one_size_keep_their_names():
    """Two parts of a batch gather fc7's input twice and fc8's, of the same size, twice."""
    expected = [Transfer("all-gather", 2, (32, 64), what=x) for x in ("fc7", "fc8") * 2]
    found = [Transfer("all-gather", 2, (32, 64), what="jit(step)", name=f"ag.{i}") for i in "12345"]
    record = communication(found, expected)
    assert [(x["of"], x["number"], x["sent_bytes"]) for x in record["transfers"]] == [
        *(("fc7", 2, 8192.0), ("fc8", 2, 8192.0), ("jit(step)", 1, 4096.0))
    ]
    assert record["sent_bytes"] == 5 * 32 * 64 * 4 / 2 and record["collectives"] == 5


@pytest.mark.parametrize(("name", "exchanges"), [("tower", 4), ("conv6", 5)])
def test_towers_communicate_only_where_they_exchange(name, exchanges):
    """Activations are gathered before conv3, (conv6,) fc6, fc7 and fc8, and no weight is sent."""
    config = config_of(name)
    found = read_transfers(compiled_step(config)[0].as_text())
    kinds = [x.kind for x in found]
    assert kinds.count("all-gather") == exchanges
    assert kinds.count("reduce-scatter") <= exchanges
    others = [x for x in found if x.kind not in ("all-gather", "reduce-scatter")]
    assert {x.kind for x in others} == {"all-reduce"}
    assert all(x.elements <= config.data.batch_size for x in others)


def test_a_tower_holds_half_of_the_parameters():
    net = resolve(imagenet.get_config().model, 224)
    fc8 = 4 * (4096 * 1000 + 1000)
    assert parameter_bytes(net, Layout()) == 4 * 60_965_224
    halves = parameter_bytes(net, Layout(tower=2)) - fc8
    assert 2 * halves == parameter_bytes(net, Layout()) - fc8


def test_outputs_by_hand():
    """four_layer: conv 32×32×32, pool 16 and relu, conv 16, pool 8, conv of 64, pool 4, fc10."""
    config = small("four_layer")
    config.model.width, config.data.crop_size = 1.0, 32
    net = resolve(config.model, 32)
    convolutions = 32 * (32**2 + 3 * 16**2 + 8**2) + 64 * (8**2 + 4**2)
    assert output_bytes(net, Layout(), 6) == 4 * 6 * (convolutions + 10)
    assert output_bytes(net, Layout(data=2), 6) == 4 * 3 * (convolutions + 10)
    hybrid = Layout(data=2, hybrid=True)
    assert output_bytes(net, hybrid, 6) == 4 * (3 * convolutions + 6 * 10)


def test_gathered_bytes_by_hand():
    """Inputs of conv3, fc6, fc7 and fc8, of both towers, for every image of the share."""
    net = papers_net()
    numbers = 13 * 13 * 256 + 6 * 6 * 256 + 4096 + 4096
    assert gathered_bytes(net, Layout(tower=2), 128) == 4 * 128 * numbers
    assert gathered_bytes(net, Layout(data=2, tower=2), 128) == 4 * 64 * numbers
    assert gathered_bytes(net, Layout(), 128) == 0


def test_layer_rows_by_hand():
    rows = {row["layer"]: row for row in layer_rows(papers_net())}
    assert rows["conv1"] == {
        "layer": "conv1", "kind": "Conv", "in_height": 224, "in_width": 224, "in_maps": 3,
        "out_height": 55, "out_width": 55, "out_maps": 96, "size": 11, "stride": 4, "padding": 0,
        "far_padding": 3, "towers": 2, "reads_all_towers": 0, "fan_in": 363, "parameters": 34_944,
        "multiply_adds": 105_415_200, "parameter_bytes": 139_776, "output_bytes": 1_161_600,
    }  # fmt: skip
    assert rows["conv3"]["reads_all_towers"] == 1 and rows["conv3"]["fan_in"] == 9 * 256
    assert rows["conv4"]["reads_all_towers"] == 0 and rows["conv4"]["fan_in"] == 9 * 192
    assert (rows["fc8"]["towers"], rows["fc8"]["out_maps"], rows["fc8"]["size"]) == (1, 1000, 0)
    assert (rows["pool1"]["size"], rows["pool1"]["stride"], rows["pool1"]["parameters"]) == (
        3,
        2,
        0,
    )
    assert sum(row["parameters"] for row in rows.values()) == 60_965_224
    assert sum(row["multiply_adds"] for row in rows.values()) == 724_406_816


# --- the forecast ------------------------------------------------------------------------------

MACHINE = Machine(link=6e9, flops=1e12)


def papers_net():
    return resolve(imagenet.get_config().model, 224)


def test_flops_by_hand():
    """724,406,816 multiply-adds, of which conv1's 105,415,200 need no gradient of their input."""
    net = papers_net()
    assert step_flops(net, Layout(), 1) == 6 * 724_406_816 - 2 * 105_415_200
    fc8 = 6 * 4_096_000
    split = (step_flops(net, Layout(), 1) - fc8) // 2
    assert step_flops(net, Layout(tower=2), 1) == split + fc8
    assert step_flops(net, Layout(data=2, hybrid=True), 2) == 2 * (split + fc8)


def test_data_parallel_bytes_by_hand():
    """A ring reduces 60,965,224 gradients and three sums: 2 × 3/4 of them from each of four."""
    sent = wire_bytes(expected_transfers(papers_net(), Layout(data=4), 128))
    assert sent == (60_965_224 + 3) * 4 * 2 * 3 / 4


@pytest.mark.parametrize("scheme", ["data", "tower", "hybrid"])
def test_more_devices_send_more_and_are_less_efficient(scheme):
    net = papers_net()
    found = forecasts(net, scheme, 128, MACHINE)
    assert [x.layout.devices for x in found] == list(DEVICES)
    assert [x.batch for x in found] == [128 * devices for devices in DEVICES]
    shares = [efficiency(x, found[0]) for x in found]
    assert shares[0] == 1 and found[0].sent == 0
    assert all(a > b for a, b in itertools.pairwise(shares))
    assert all(a.sent < b.sent for a, b in itertools.pairwise(found))


def test_faster_machines_are_faster():
    layout = Layout(data=4, tower=2)
    slow = forecast(papers_net(), layout, 1024, MACHINE)
    faster_link = forecast(papers_net(), layout, 1024, Machine(2 * MACHINE.link, MACHINE.flops))
    faster = forecast(papers_net(), layout, 1024, Machine(MACHINE.link, 2 * MACHINE.flops))
    assert faster_link.link == slow.link / 2 and faster_link.compute == slow.compute
    assert faster.compute == slow.compute / 2 and faster.link == slow.link
    assert slow.seconds == slow.compute + slow.link


def test_towers_use_as_many_devices_as_they_can():
    net = papers_net()
    assert scheme_layout("tower", 1, net) == Layout()
    assert scheme_layout("tower", 8, net) == Layout(4, 2)
    assert scheme_layout("tower", 2, k20.NET) is None
    config = imagenet.get_config()
    config.model.towers = 4
    assert scheme_layout("tower", 8, resolve(config.model, 224)) == Layout(2, 4)
    config.model.towers, config.model.name = None, "caffenet"  # its norms read over the border
    assert scheme_layout("tower", 2, resolve(config.model, 224)) is None


def test_hybrid_stops_where_units_do_not_divide():
    config = small()  # fc6 and fc7 of 256 units, 128 a tower
    found = forecasts(resolve(config.model, 64), "hybrid", 32, MACHINE)
    assert found[-1].layout.devices == 128


def test_the_row_of_one_k20_is_reproduced():
    for link in k20.LINKS:
        assert k20.hours(1, True, link) == pytest.approx(98.05)
    assert k20.calibrated(6.0).flops == pytest.approx(326.66 * 4.1446e9, rel=1e-3)


def test_k20_forecasts_by_hand():
    """Two GPUs: 391.84 ms for 128 images, fc8 for 128 more, and the bytes sent at 6 GB/s.

    Hybrid: an all-reduce of 2,469,696 convolution parameters and a norm. For each image gathers of
    9216, 4096 and 4096 numbers, gradients of the first two, its label, mask and place in the batch.
    The ring halves each.
    """
    flops = k20.calibrated(6.0).flops
    alone = 98.05 * 3600 * 128 / (90 * 1_281_167)
    sent = 4 * (2_469_696 + 1) + 4 * 256 * (2 * 9216 + 3 * 4096 + 3) / 2
    step = alone + 6 * 4_096_000 * 128 / flops + sent / 6e9
    assert k20.hours(2, True, 6.0) == pytest.approx(98.05 / 2 * step / alone, rel=1e-9)
    step = alone + 4 * (61_100_840 + 3) / 6e9
    assert k20.hours(2, False, 6.0) == pytest.approx(98.05 / 2 * step / alone, rel=1e-9)


def test_the_k20_table_names_its_source():
    text = k20.k20_text()
    assert "as remembered, not verified" in text
    for hours in (98.05, 50.24, 50.90, 26.20, 26.78, 15.68, 15.91):
        assert f" {hours:.2f} " in text
    assert len(re.findall(r"^\| \d", text, re.MULTILINE)) == 1 + 2 * 3


def test_gtx580_by_hand():
    """60,965,224 parameters, three times over, and 1,266,952 outputs of an image, twice."""
    net = published("alexnet", 1000)
    outputs = (
        *(55 * 55 * 96 * 2, 27 * 27 * 96, 27 * 27 * 256 * 2, 13 * 13 * 256, 13 * 13 * 384 * 2),
        *(13 * 13 * 256, 6 * 6 * 256, 4 * 4096, 1000),
    )
    one = gtx580.memory_parts(net, gtx580.ONE, 128)
    assert one == (*[4 * 60_965_224] * 3, *[4 * 128 * sum(outputs)] * 2, 0)
    assert sum(one) < gtx580.CAPACITY
    for layout in (gtx580.ONE, gtx580.TWO):
        largest = gtx580.largest_batch(net, layout)
        assert sum(gtx580.memory_parts(net, layout, largest)) <= gtx580.CAPACITY
        assert sum(gtx580.memory_parts(net, layout, largest + 1)) > gtx580.CAPACITY
    flops = 266_251_935_744 / 128 * 90 * 1.2e6  # of a GPU in the whole training
    assert gtx580.sustained(net, 5) == pytest.approx(flops / (5 * 86_400))


# --- the command -------------------------------------------------------------------------------

BASE = ("--config=configs/base.py", "--config.model.width=0.0625")


def base_model():
    """config.model of BASE, with its classes filled in."""
    model = base.get_config().model
    model.width, model.num_classes = 0.0625, 10
    return model


@pytest.mark.parametrize(("env", "unused"), [({}, False), ({"JAX_NUM_CPU_DEVICES": "9"}, True)])
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


def test_layers_are_printed_as_text():
    out = printed("--table=layers")
    assert out.splitlines()[0].startswith("layer ") and out.splitlines()[-1].startswith("total ")


def test_help_names_the_units():
    out = command.help_text(plan.define_flags, plan.__doc__, with_config=True)
    assert "10^9 bytes, not bits" in out and "TFLOP (10^12) a second" in out
    assert "--devices=8" in out
