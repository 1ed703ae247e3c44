"""Errors, views, ensembles and result files against NumPy and hand-worked cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax import build_model
from alexnet_jax.evaluate import (
    evaluate,
    make_predict,
    make_view_probabilities,
    mean_probabilities,
    score,
    top_k,
    write_probabilities,
    write_submission,
)
from alexnet_jax.parallel import Layout, make_devices
from alexnet_jax.preprocess import InputStats
from configs.base import get_config

PROBABILITIES = np.array(
    [
        [0.40, 0.30, 0.12, 0.08, 0.06, 0.04],
        [0.04, 0.06, 0.08, 0.12, 0.30, 0.40],
        [0.30, 0.40, 0.04, 0.06, 0.08, 0.12],
        [0.10, 0.10, 0.10, 0.10, 0.50, 0.10],
    ]
)


# --- top-1 and top-5 -------------------------------------------------------------------------


def test_top_1_and_top_5_by_hand():
    # the first is right, the second only among five, the third is the sixth: neither
    result = score(np.log(PROBABILITIES[:3]), np.array([0, 4, 2]), 1)
    assert result.top1_error == pytest.approx(2 / 3)
    assert result.top5_error == pytest.approx(1 / 3)
    assert result.loss == pytest.approx(-np.log([0.40, 0.30, 0.04]).mean())
    assert (result.examples, result.views) == (3, 1)


def test_of_equal_probabilities_the_lower_class_comes_first():
    assert top_k(PROBABILITIES[3:], 5).tolist() == [[4, 0, 1, 2, 3]]
    result = score(np.log(PROBABILITIES[[3, 3]]), np.array([3, 5]), 1)
    assert result.top5_error == 0.5  # class 5 is left out by the tie


def test_a_tie_is_not_counted_as_right_twice():
    flat = np.full((3, 3), 1 / 3)
    result = score(np.log(flat), np.array([0, 1, 2]), 1)
    assert result.top1_error == pytest.approx(2 / 3)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_up_to_five_classes_are_always_among_the_five(classes):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(classes), 50)
    result = score(np.log(probabilities), np.random.default_rng(1).integers(0, classes, 50), 1)
    assert result.top5_error == 0
    assert 0 < result.top1_error < 1
    assert top_k(probabilities, 5).shape == (50, classes)


def test_a_score_is_what_numpy_says():
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(20), 500), rng.integers(0, 20, 500)
    result = score(np.log(probabilities), labels, 10)
    own = probabilities[np.arange(500), labels]
    rank = (probabilities > own[:, None]).sum(1)  # no ties in random numbers
    assert result.top1_error == pytest.approx((rank > 0).mean())
    assert result.top5_error == pytest.approx((rank > 4).mean())
    assert result.loss == pytest.approx(-np.log(own).mean())


def test_a_probability_below_what_float32_holds_has_its_exact_loss():
    """As the loss of training has, which is computed from logits too."""
    result = score(np.array([[0.0, -200.0], [0.0, -1000.0]]), np.array([1, 1]), 1)
    assert result.loss == pytest.approx(600)
    assert result.top1_error == 1
    assert result.probabilities[:, 1].tolist() == [0, 0]


def test_the_likeliest_classes_are_ordered_also_where_float32_makes_them_equal():
    result = score(np.array([[-900.0, -800.0, -1e-9], [-1e-12, -30.0, -29.0]]), np.array([0, 0]), 1)
    assert result.probabilities[0].tolist() == [0, 0, 1]
    assert result.likeliest.tolist() == [[2, 1, 0], [0, 2, 1]]


def test_values_are_named_after_the_split():
    values = score(np.log(PROBABILITIES), np.array([0, 4, 2, 4]), 10).values("test")
    assert values == {
        "test/loss": pytest.approx(-np.log([0.40, 0.30, 0.04, 0.50]).mean()),
        "test/top1_error": 0.5,
        "test/top5_error": 0.25,
        "test/examples": 4,
        "test/views": 10,
    }


# --- every image once ------------------------------------------------------------------------


def batches(labels, size):
    """Yields images that show their own number; the last batch is padded with its first image."""
    for start in range(0, len(labels), size):
        numbers = np.arange(start, min(start + size, len(labels)))
        padded = np.pad(numbers, (0, size - len(numbers)), constant_values=numbers[0])
        yield {
            "image": padded.astype(np.uint8)[:, None, None, None],
            "label": labels[padded].astype(np.int32),
            "mask": (np.arange(size) < len(numbers)).astype(np.float32),
        }


def table_lookup(table):
    """Returns a net that looks the log-probabilities of every image up by its number."""
    with np.errstate(divide="ignore"):
        logarithms = np.log(table)
    return lambda images: logarithms[np.asarray(images)[:, 0, 0, 0].astype(int)]


@pytest.mark.parametrize("size", [1, 3, 7, 10, 64])
def test_errors_do_not_depend_on_the_batch_size_nor_on_padding(size):
    rng = np.random.default_rng(0)
    table, labels = rng.dirichlet(np.ones(8), 10), rng.integers(0, 8, 10)
    result = evaluate([table_lookup(table)], batches(labels, size), 10, 1)
    rank = (table > table[np.arange(10), labels][:, None]).sum(1)
    assert result.examples == 10
    assert result.top1_error == pytest.approx((rank > 0).mean())
    assert result.top5_error == pytest.approx((rank > 4).mean())
    np.testing.assert_array_equal(result.labels, labels)
    np.testing.assert_allclose(result.probabilities, table, rtol=1e-6)


@pytest.mark.parametrize("examples", [9, 11])
def test_a_missing_or_repeated_image_is_an_error(examples):
    table, labels = np.full((10, 2), 0.5), np.zeros(10, int)
    with pytest.raises(RuntimeError, match=rf"10 .* {examples}"):
        evaluate([table_lookup(table)], batches(labels, 4), examples, 1)


def test_an_ensemble_averages_probabilities():
    rng = np.random.default_rng(0)
    tables, labels = rng.dirichlet(np.ones(8), (3, 10)), rng.integers(0, 8, 10)
    result = evaluate([table_lookup(t) for t in tables], batches(labels, 4), 10, 1)
    mean = (tables[0] + tables[1] + tables[2]) / 3
    np.testing.assert_allclose(result.probabilities, mean, rtol=1e-6)
    assert result.top1_error == pytest.approx((mean.argmax(1) != labels).mean())
    assert result.loss == pytest.approx(-np.log(mean[np.arange(10), labels]).mean())


def test_the_average_can_be_right_where_no_member_is():
    first, second = np.array([[0.6, 0.4, 0.0]]), np.array([[0.0, 0.45, 0.55]])
    result = evaluate([table_lookup(first), table_lookup(second)], batches(np.array([1]), 1), 1, 1)
    assert result.top1_error == 0  # 0.3, 0.425, 0.275


def test_the_mean_of_probabilities_that_underflow_keeps_their_logarithms():
    # (e^−1000 + e^−1001) ÷ 2 = e^−1000 (1 + e^−1) ÷ 2
    found = mean_probabilities([np.array([[-1000.0, 0.0]]), np.array([[-1001.0, 0.0]])])
    expected = [[-1000 + np.log((1 + np.exp(-1)) / 2), 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


# --- views -----------------------------------------------------------------------------------


def softmax(x):
    exps = np.exp(x - x.max(1, keepdims=True))
    return exps / exps.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def net():
    """Returns a net of 12 pixels: its view probabilities, parameters, and function to logits."""
    config = get_config()
    config.model.name, config.model.width = "four_layer", 1.0
    config.model.num_classes, config.data.crop_size = 10, 12
    model = build_model(config)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 12, 12, 3)))["params"]
    params = jax.tree.map(lambda x: 3 * x, params)  # so that views differ
    params["conv1"]["kernel"] *= 30
    logits = jax.jit(lambda x: model.apply({"params": params}, x)[0])
    probabilities = make_view_probabilities(model, make_devices(Layout()))
    return probabilities, params, lambda x: np.asarray(logits(jnp.float32(x)), np.float64)


def test_ten_views_are_averaged_as_probabilities(net):
    probabilities, params, logits = net
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    stats = InputStats(jnp.full((12, 12, 3), 100.0), jnp.full(3, 0.5))
    views = []
    for row, column in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)):
        piece = images[:, row : row + 12, column : column + 12]
        views += [softmax(logits((p - 100.0) * 0.5)) for p in (piece, piece[:, :, ::-1])]
    by_hand = np.mean(views, axis=0)
    predict = make_predict(probabilities, params, stats, 10)
    np.testing.assert_allclose(np.exp(predict(images)), by_hand, rtol=1e-4, atol=1e-6)
    assert np.abs(by_hand - views[8]).max() > 0.01  # the views do differ from the centre


def test_one_view_is_the_centre(net):
    probabilities, params, logits = net
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    predict = make_predict(probabilities, params, InputStats(jnp.zeros(3), jnp.ones(3)), 1)
    by_hand, found = softmax(logits(images[:, 2:14, 2:14])), np.exp(predict(images))
    np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)


def test_logarithms_of_tiny_probabilities_are_exact(net):
    """The classifier's weights times a million: probabilities far below what float32 holds."""
    probabilities, params, logits = net
    images = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3), np.uint8)
    fc10 = {"kernel": params["fc10"]["kernel"] * 1e6, "bias": params["fc10"]["bias"]}
    stats = InputStats(jnp.zeros(3), jnp.ones(3))
    found = make_predict(probabilities, {**params, "fc10": fc10}, stats, 1)(images)
    wanted = 1e6 * logits(images)  # every bias is 0
    wanted -= np.logaddexp.reduce(wanted, axis=1, keepdims=True)
    assert wanted.min() < -1000
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1)


# --- files -----------------------------------------------------------------------------------


def test_the_submission_file_counts_classes_from_1(tmp_path):
    result = score(np.log(PROBABILITIES), np.array([0, 0, 0, 0]), 1)
    write_submission(tmp_path / "top5.txt", result)
    assert (tmp_path / "top5.txt").read_text().splitlines() == [
        "1 2 3 4 5",
        "6 5 4 3 2",
        "2 1 6 5 4",
        "5 1 2 3 4",
    ]


def test_probabilities_come_back_from_their_file_as_they_were(tmp_path):
    labels = np.array([0, 4, 2, 5], np.int32)
    write_probabilities(tmp_path / "p.npz", score(np.log(PROBABILITIES), labels, 1))
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        assert sorted(file) == ["labels", "probabilities"]
        np.testing.assert_array_equal(file["labels"], labels)
        np.testing.assert_allclose(file["probabilities"], PROBABILITIES, rtol=1e-6)
        assert file["probabilities"].dtype == np.float32
