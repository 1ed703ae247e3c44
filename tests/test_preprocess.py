"""Crops, flips, the mean image and colour noise against hand slicing and their own statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_jax.data import Dataset
from alexnet_jax.data.image_statistics import ColourComponents
from alexnet_jax.preprocess import (
    VIEWS,
    InputStats,
    augment_batch,
    colour_scale,
    crop,
    input_stats,
    view,
)
from configs.base import get_config

# Of ImageNet, 0–255, from the released code's own data file.
STDEVS = np.array([121.78006, 37.09389, 19.72083])
COMPONENTS = np.array(
    [
        [-0.563510, -0.576184, -0.592003],
        [-0.712579, -0.023542, 0.701196],
        [0.417955, -0.816981, 0.397311],
    ]
)


def data_of(side, size, colour="none", **augment):
    config = get_config().data
    config.image_size, config.crop_size, config.augment.colour = side, size, colour
    config.augment.crop = config.augment.flip = False
    for key, value in augment.items():
        config.augment[key] = value
    return config


def stats_of(data, mean_image=None):
    mean = np.zeros((data.image_size,) * 2 + (3,)) if mean_image is None else mean_image
    colour = ColourComponents(STDEVS.astype(np.float32), COMPONENTS.astype(np.float32))
    dataset = Dataset("made", data.image_size, ("a", "b"), {}, mean.astype(np.float32), colour, "")
    return input_stats(data, dataset)


def made(images, data, stats, seed=0, colour=0.0, examples=None):
    """Augments a batch; its examples are 0, 1, … by default."""
    examples = jnp.arange(len(images)) if examples is None else jnp.asarray(examples)
    key = jax.random.key(seed)
    return np.asarray(augment_batch(images, key, examples, data, stats, jnp.float32(colour)))


def coordinates(number, side):
    """Returns images whose pixel (row, column) has the colour (row, column, 7)."""
    rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    image = np.stack([rows, columns, np.full_like(rows, 7)], -1).astype(np.uint8)
    return np.broadcast_to(image, (number, side, side, 3))


# --- crops and flips -------------------------------------------------------------------------


def chi_squared(counts):
    expected = counts.sum() / len(counts)
    return ((counts - expected) ** 2 / expected).sum()


@pytest.fixture(scope="module")
def corners():
    """Returns the corners of 6,600 random crops of 224 pixels out of 256: (row, column) each."""
    data = data_of(256, 224, crop=True)
    stats = stats_of(data)

    @jax.jit
    def first_pixels(key):
        images = jnp.asarray(coordinates(1, 256)[0])
        images = jnp.broadcast_to(images, (66, 256, 256, 3))
        x = augment_batch(images, key, jnp.arange(66), data, stats, jnp.float32(0))
        return x[:, 0, 0]

    found = [first_pixels(jax.random.key(seed)) for seed in range(100)]
    return np.concatenate(found)[:, :2].astype(int)


@pytest.mark.parametrize("axis", [0, 1])
def test_crops_of_224_out_of_256_begin_uniformly_at_0_to_32_inclusive(corners, axis):
    counts = np.bincount(corners[:, axis])
    assert len(counts) == 33
    assert counts.min() > 0
    assert chi_squared(counts) < 74.7  # 32 degrees of freedom: exceeded once in 30,000


def test_rows_and_columns_of_a_crop_are_independent(corners):
    assert abs(np.corrcoef(corners.T)[0, 1]) < 5 / np.sqrt(len(corners))


def test_each_image_is_cropped_by_itself(corners):
    in_one_batch = {tuple(corner) for corner in corners[:66]}
    assert len(in_one_batch) > 50  # of 66 draws out of 1,089 about two coincide


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(0, 6), st.data())
@settings(max_examples=15, deadline=None)
def test_a_crop_is_a_slice(seed, size, margin, data):
    side = size + margin
    image = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    row, column = data.draw(st.integers(0, margin)), data.draw(st.integers(0, margin))
    found = crop(jnp.asarray(image), row, column, size)
    np.testing.assert_array_equal(found, image[row : row + size, column : column + size])


@pytest.mark.slow
def test_a_random_crop_is_a_piece_of_the_image():
    data = data_of(12, 8, crop=True)
    images = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 3), np.uint8)
    x = made(images, data, stats_of(data))
    for image, cropped in zip(images, x, strict=True):
        pieces = [image[i : i + 8, j : j + 8] for i in range(5) for j in range(5)]
        assert any((cropped == piece).all() for piece in pieces)


def test_without_random_crops_the_centre_is_taken():
    data = data_of(13, 8)
    images = np.random.default_rng(0).integers(0, 256, (4, 13, 13, 3), np.uint8)
    np.testing.assert_array_equal(made(images, data, stats_of(data)), images[:, 2:10, 2:10])


def test_half_of_the_images_are_mirrored_left_to_right_and_otherwise_as_they_are():
    data = data_of(8, 8, flip=True)
    images = np.random.default_rng(0).integers(0, 256, (1000, 8, 8, 3), np.uint8)
    x = made(images, data, stats_of(data))
    same = (x == images).all((1, 2, 3))
    mirrored = (x == images[:, :, ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert abs(mirrored.sum() - 500) < 5 * np.sqrt(250)


def test_no_image_is_mirrored_unless_asked_for():
    data = data_of(8, 8)
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(made(images, data, stats_of(data)), images)


def test_the_same_key_gives_the_same_input_and_another_key_another():
    data = data_of(12, 8, "paper", crop=True, flip=True)
    images = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3), np.uint8)
    first = made(images, data, stats_of(data), seed=3, colour=0.1)
    np.testing.assert_array_equal(first, made(images, data, stats_of(data), seed=3, colour=0.1))
    other = made(images, data, stats_of(data), seed=4, colour=0.1)
    assert (first != other).any((1, 2, 3)).all()


def test_an_image_is_augmented_independently_of_what_the_others_show():
    data = data_of(12, 8, "code", crop=True, flip=True)
    images = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3), np.uint8)
    others = images.copy()
    others[1:] = 255 - others[1:]
    first = made(images, data, stats_of(data), colour=0.1)
    second = made(others, data, stats_of(data), colour=0.1)
    np.testing.assert_array_equal(first[0], second[0])
    assert (first[1:] != second[1:]).any((1, 2, 3)).all()


def by_hand(image, key, mean, scale, colour):
    """Augments one image in NumPy in the code's style, with the random numbers of its own key."""
    crop_key, flip_key, colour_key = jax.random.split(key, 3)
    row, column = np.asarray(jax.random.randint(crop_key, (2,), 0, 5))
    x = image[row : row + 8, column : column + 8].astype(np.float64)
    if jax.random.bernoulli(flip_key):
        x = x[:, ::-1]
    noise = colour * np.asarray(jax.random.normal(colour_key, (3,)), np.float64) * STDEVS
    return (x - mean[2:10, 2:10] + noise @ COMPONENTS) / (1 + colour) * scale


@pytest.mark.slow
def test_everything_random_is_a_function_of_the_key_and_the_example():
    """Augmented one by one, each with the key of its own place in the batch."""
    data = data_of(12, 8, "code", crop=True, flip=True)
    data.input_scale = (1.0, 0.5, 2.0)
    rng = np.random.default_rng(0)
    mean, images = rng.uniform(0, 255, (12, 12, 3)), rng.integers(0, 256, (6, 12, 12, 3), np.uint8)
    examples, key = [7, 0, 300, 1, 2, 7], jax.random.key(5)
    x = made(images, data, stats_of(data, mean), seed=5, colour=0.1, examples=examples)
    for image, example, found in zip(images, examples, x, strict=True):
        expected = by_hand(image, jax.random.fold_in(key, example), mean, [1, 0.5, 2], 0.1)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)


def test_an_image_is_augmented_as_its_example_wherever_it_stands():
    data = data_of(12, 8, "paper", crop=True, flip=True)
    images = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3), np.uint8)
    order = np.random.default_rng(1).permutation(20)[:7]
    full = made(images, data, stats_of(data), colour=0.1)
    part = made(images[order], data, stats_of(data), colour=0.1, examples=order)
    np.testing.assert_allclose(part, full[order], rtol=1e-6)


# --- mean and scale --------------------------------------------------------------------------


def test_the_mean_image_is_cropped_at_the_centre_whatever_the_offset():
    data = data_of(16, 8, crop=True)
    mean = np.random.default_rng(1).uniform(0, 255, (16, 16, 3)).astype(np.float32)
    images = coordinates(100, 16)
    x = made(images, data, stats_of(data, mean)) + mean[4:12, 4:12]
    starts = np.rint(x[:, 0, 0, :2]).astype(int)
    assert len({tuple(start) for start in starts}) > 30
    for (row, column), cropped in zip(starts, x, strict=True):
        piece = images[0, row : row + 8, column : column + 8]
        np.testing.assert_allclose(cropped, piece, atol=1e-4)


def test_the_mean_image_is_not_mirrored():
    data = data_of(8, 8, flip=True)
    mean = np.random.default_rng(1).uniform(0, 255, (8, 8, 3)).astype(np.float32)
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), np.uint8)
    x = made(images, data, stats_of(data, mean))
    same = (np.abs(x - (images - mean)) < 1e-3).all((1, 2, 3))
    mirrored = (np.abs(x - (images[:, :, ::-1] - mean)) < 1e-3).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert mirrored.any()
    assert same.any()


def test_an_odd_margin_of_the_mean_image_leaves_more_below_and_right():
    data = data_of(13, 8)
    mean = np.random.default_rng(1).uniform(0, 255, (13, 13, 3)).astype(np.float32)
    np.testing.assert_array_equal(stats_of(data, mean).mean, mean[2:10, 2:10])


def test_torchvisions_input_by_hand():
    data = data_of(8, 8)
    data.input_mean = (123.675, 116.28, 103.53)  # 255 × (0.485, 0.456, 0.406)
    data.input_scale = tuple(1 / (255 * x) for x in (0.229, 0.224, 0.225))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    expected = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(made(images, data, stats_of(data)), expected, rtol=1e-5, atol=1e-6)


# --- colour noise ----------------------------------------------------------------------------


def colour_shifts(style, scale, number=20_000):
    """Returns the noise on grey images of 100, in coordinates along the components: [number, 3]."""
    data = data_of(2, 2, style)
    images = np.full((number, 2, 2, 3), 100, np.uint8)
    x = made(images, data, stats_of(data), colour=scale).astype(np.float64)
    grey = 100 / (1 + scale) if style == "code" else 100
    np.testing.assert_allclose(x, np.broadcast_to(x[:, :1, :1], x.shape))  # all pixels the same
    return (x[:, 0, 0] - grey) @ np.linalg.inv(COMPONENTS)


@pytest.mark.parametrize(
    ("style", "expected", "first"),
    [("paper", 0.1 * STDEVS**2 / 255, 5.816), ("code", 0.1 * STDEVS / 1.1, 11.071)],
)
def test_colour_noise_has_its_published_std_along_each_component(style, expected, first):
    shifts = colour_shifts(style, 0.1)
    tolerance = 5 / np.sqrt(2 * len(shifts))
    np.testing.assert_allclose(shifts.std(0), expected, rtol=tolerance)
    assert shifts[:, 0].std() == pytest.approx(first, rel=tolerance)  # in grey levels
    assert (np.abs(shifts.mean(0)) < 5 * expected / np.sqrt(len(shifts))).all()
    correlations = np.corrcoef(shifts.T) - np.eye(3)
    assert np.abs(correlations).max() < 5 / np.sqrt(len(shifts))


def test_colour_noise_is_normal():
    first = colour_shifts("paper", 0.1)[:, 0]
    share = (np.abs(first) < first.std()).mean()  # 68.27 % of a normal distribution
    assert abs(share - 0.6827) < 5 * np.sqrt(0.6827 * 0.3173 / len(first))


def test_the_codes_style_shrinks_the_whole_image_by_1_1_while_the_noise_is_on():
    data = data_of(2, 2, "code")
    mean = np.full((2, 2, 3), 40.0)
    images = np.full((50_000, 2, 2, 3), 150, np.uint8)
    x = made(images, data, stats_of(data, mean), colour=0.1)
    spread = 0.1 * STDEVS[0] / np.sqrt(len(images))  # at most, of the mean of any colour
    np.testing.assert_allclose(x.mean((0, 1, 2)), 110 / 1.1, atol=5 * spread)


@pytest.mark.parametrize("style", ["paper", "code"])
def test_noise_switched_off_leaves_the_image_as_it_is(style):
    data = data_of(4, 4, style)
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)
    np.testing.assert_array_equal(made(images, data, stats_of(data), colour=0.0), images)


def test_the_noise_follows_its_schedule_in_epochs():
    data = data_of(4, 4, "code", colour_scale=0.1, colour_listed=((67, 0.0), (91, 0.1), (124, 0)))
    scale = colour_scale(data, 10)
    steps = {0: 0.1, 669: 0.1, 670: 0, 909: 0, 910: 0.1, 1239: 0.1, 1240: 0}
    assert [float(scale(jnp.int32(step))) for step in steps] == pytest.approx([*steps.values()])


def test_style_none_has_no_noise_whatever_the_schedule():
    data = data_of(4, 4, "none", colour_scale=0.1, colour_listed=((1, 0.2),))
    scale = colour_scale(data, 10)
    assert [float(scale(jnp.int32(step))) for step in (0, 10)] == [0, 0]
    images = np.full((2, 4, 4, 3), 9, np.uint8)
    np.testing.assert_array_equal(made(images, data, stats_of(data), colour=0.1), images)


# --- the ten views ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "size", "middle"), [(256, 224, 16), (24, 20, 2), (13, 8, 2), (8, 8, 0)]
)
def test_the_ten_views_are_corners_and_centre_each_mirrored_too(side, size, middle):
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    mean = np.random.default_rng(1).uniform(0, 255, (size, size, 3)).astype(np.float32)
    stats = InputStats(jnp.asarray(mean), jnp.asarray([1.0, 0.5, 2.0]))
    margin = side - size
    corners = [(0, 0), (0, margin), (margin, 0), (margin, margin), (middle, middle)]
    expected = []
    for row, column in corners:
        piece = images[:, row : row + size, column : column + size]
        expected += [(p - mean) * [1.0, 0.5, 2.0] for p in (piece, piece[:, :, ::-1])]
    found = [np.asarray(view(images, stats, size, *place)) for place in VIEWS[10]]
    assert len(found) == len(expected) == 10
    copies = 5 if margin == 0 else 1  # without a margin the five crops are the same
    for wanted in expected:
        same = sum(np.allclose(wanted, x, rtol=1e-6, atol=1e-4) for x in found)
        assert same == copies


def test_the_single_view_is_the_centre():
    images = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), np.uint8)
    stats = InputStats(jnp.zeros(3), jnp.ones(3))
    (centre,) = VIEWS[1]
    np.testing.assert_array_equal(view(images, stats, 224, *centre), images[:, 16:240, 16:240])
