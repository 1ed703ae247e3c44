"""Bytes, operations and forecasts by hand, and the tables of the past."""

import itertools
import re

import pytest
from devices import small

from alexnet_jax.nets.flops import step_flops
from alexnet_jax.nets.variants import published, resolve
from alexnet_jax.parallel import Layout
from alexnet_jax.plan import gtx580, k20
from alexnet_jax.plan.forecast import (
    DEVICES,
    Machine,
    efficiency,
    forecast,
    forecasts,
    scheme_layout,
)
from alexnet_jax.plan.layers import layer_rows
from alexnet_jax.plan.memory import gathered_bytes, output_bytes, parameter_bytes
from alexnet_jax.plan.traffic import expected_transfers, wire_bytes
from configs import imagenet


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
