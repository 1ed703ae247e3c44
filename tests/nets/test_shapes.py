"""Windows, sides, smallest crops and the layer table, by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from net_sizes import ALEXNET_LAYERS, net_of, shapes_of

from alexnet_jax.errors import UserError
from alexnet_jax.nets.shapes import (
    WindowTooLargeError,
    layer_table,
    overhang,
    smallest_crop,
    window_count,
)
from alexnet_jax.nets.spec import Conv, Local, MaxPool, Pool
from alexnet_jax.nets.zoo import NETS

# --- windows ---------------------------------------------------------------------------------


def test_conv1_sees_224_pixels_and_three_rows_of_zeros_beyond_the_far_edge():
    conv1 = NETS["alexnet"].layers[0]
    count = window_count(224, conv1)
    assert count == 55
    assert overhang(224, conv1) == 3
    first_of_last_window = (count - 1) * conv1.stride  # no padding before the first pixel
    assert first_of_last_window == 216
    assert first_of_last_window + conv1.size == 224 + 3


def test_conv1_of_caffe_fits_227_pixels_exactly():
    conv1 = NETS["caffe_alexnet"].layers[0]
    assert window_count(227, conv1) == 55
    assert overhang(227, conv1) == 0


def test_conv1_of_torchvision_leaves_the_last_pixels_out():
    conv1 = NETS["one_weird_trick"].layers[0]
    assert window_count(224, conv1) == 55  # floor(217 ÷ 4) + 1
    assert overhang(224, conv1) == 0


SIDES = {
    "alexnet": [55, 27, 27, 13, 13, 13, 13, 6],
    "alexnet_released_std": [55, 27, 27, 13, 13, 13, 13, 6],
    "alexnet_original": [55, 27, 27, 13, 13, 13, 13, 6],
    "alexnet_half": [55, 27, 27, 13, 13, 13, 13, 6],
    "caffe_alexnet": [55, 27, 27, 13, 13, 13, 13, 6],
    "caffenet": [55, 27, 27, 13, 13, 13, 13, 6],
    "one_weird_trick": [55, 27, 27, 13, 13, 13, 13, 6],
    "alexnet_conv6": [55, 27, 27, 13, 13, 13, 13, 6, 6],
    "cuda_convnet_18pct": [32, 16, 16, 8, 8, 4],
    "four_layer": [32, 16, 16, 8, 8, 4],
    "cuda_convnet_13pct": [24, 12, 12, 6, 6, 6],
    "cuda_convnet_11pct": [24, 12, 12, 6, 6, 6],
}


@pytest.mark.parametrize("name", SIDES)
def test_sides_from_the_first_convolution_to_the_last_pool(name):
    sides = [
        shape.out[0]
        for shape in shapes_of(net_of(name)).values()
        if isinstance(shape.layer, Conv | Local | Pool)
    ]
    assert sides == SIDES[name]


def test_pools_of_the_paper_never_hang_over_but_those_of_the_cifar_nets_do():
    for side, count in ((55, 27), (27, 13), (13, 6)):
        assert window_count(side, MaxPool("p")) == count
        assert overhang(side, MaxPool("p")) == 0
    for side, count in ((32, 16), (16, 8), (8, 4), (24, 12), (12, 6)):
        assert window_count(side, MaxPool("p")) == count
        assert overhang(side, MaxPool("p")) == 1


WINDOWS = st.tuples(
    st.integers(1, 300), st.integers(1, 15), st.integers(1, 15), st.integers(0, 7), st.booleans()
).filter(lambda w: w[1] + 2 * w[3] >= 1 and w[0] + 2 * w[3] >= w[1] and w[2] <= w[1])


@given(WINDOWS)
@settings(max_examples=300, deadline=None)
def test_windows_that_overlap_or_touch_cover_every_row_up_to_the_end_of_the_last(window):
    side, size, stride, padding, ceil = window
    layer = Conv("c", 1, size, stride=stride, padding=padding, ceil=ceil)
    count = window_count(side, layer)
    covered = {window * stride + i for window in range(count) for i in range(size)}
    assert covered == set(range((count - 1) * stride + size))


@given(WINDOWS)
@settings(max_examples=300, deadline=None)
def test_rounding_up_covers_all_rows_and_the_last_window_starts_inside(window):
    side, size, stride, padding, _ = window
    layer = Conv("c", 1, size, stride=stride, padding=padding, ceil=True)
    rows = side + 2 * padding
    start = (window_count(side, layer) - 1) * stride
    assert start < rows  # the last window reads at least one real row
    assert start + size >= rows  # and no row is left out
    assert start + size - rows < stride  # nor would one window fewer do
    assert overhang(side, layer) == start + size - rows


@given(WINDOWS)
@settings(max_examples=300, deadline=None)
def test_rounding_down_leaves_no_window_over_the_edge_and_none_out(window):
    side, size, stride, padding, _ = window
    layer = Conv("c", 1, size, stride=stride, padding=padding)
    starts = list(range(0, side + 2 * padding - size + 1, stride))
    assert window_count(side, layer) == len(starts)
    assert overhang(side, layer) == 0


def test_a_window_larger_than_its_input_is_refused():
    with pytest.raises(WindowTooLargeError):
        window_count(10, Conv("c", 1, 11))


SMALLEST = {
    # hand-worked backwards from a last pool that needs 3 pixels
    "alexnet": 52, "alexnet_original": 52, "alexnet_half": 52, "alexnet_conv6": 52,
    "caffe_alexnet": 55, "caffenet": 55, "one_weird_trick": 63,
    "cuda_convnet_18pct": 12, "four_layer": 12, "cuda_convnet_13pct": 6, "cuda_convnet_11pct": 6,
}  # fmt: skip


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_crop_by_hand(name):
    assert smallest_crop(net_of(name)) == SMALLEST[name]
    assert shapes_of(net_of(name, crop=SMALLEST[name]))


@pytest.mark.parametrize("name", SMALLEST)
def test_a_crop_too_small_is_refused_with_the_smallest_possible(name):
    crop = SMALLEST[name] - 1
    with pytest.raises(UserError, match=rf"crop_size={crop} .* {SMALLEST[name]}$"):
        net_of(name, crop=crop)


# --- the layer table -------------------------------------------------------------------------


def test_the_layer_table_prints_published_numbers_by_layer():
    header, *table = layer_table(net_of("alexnet"))
    rows = {name: dict(zip(header, (name, *cells), strict=True)) for name, *cells in table}
    for name, (weights, biases, macs, *_) in ALEXNET_LAYERS.items():
        assert rows[name]["parameters"] == f"{weights + biases:,}"
        assert rows[name]["multiply-adds"] == f"{macs:,}"
    assert rows["total"]["parameters"] == "60,965,224"
    assert rows["total"]["multiply-adds"] == "724,406,816"
    assert rows["conv1"]["output"] == "55×55×96"
    assert rows["conv1"]["a tower has"] == "48 of 96"
    assert rows["conv1"]["kernel"] == "11×11×3×48"
    assert [rows[f"conv{i}"]["reads"] for i in (2, 3)] == ["its own", "all towers"]
    assert [rows[x]["a tower has"] for x in ("norm1", "fc7", "fc8")] == [
        "48 of 96", "2048 of 4096", "all",
    ]  # fmt: skip


def test_convolutions_hold_91_9_percent_of_the_multiply_adds_and_3_8_of_the_parameters():
    shapes = shapes_of(net_of("alexnet"))
    convs = [s for s in shapes.values() if isinstance(s.layer, Conv)]
    assert sum(s.macs for s in convs) == 665_784_864
    assert sum(s.params for s in convs) == 2_334_080
    assert np.isclose(665_784_864 / 724_406_816, 0.919, atol=5e-4)
