import jax
import numpy as np
from sklearn.datasets import load_digits

from alexnet_jax.data import embedded


def test_digits_are_scikit_learns():
    splits = embedded.digits(8).splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 1438, "test": 359}
    found = []
    for split in splits.values():
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32
        assert np.all(split.images == split.images[..., :1])
        pairs = zip(split.images[..., 0], split.labels, strict=True)
        found += [(image.tobytes(), label) for image, label in pairs]
    originals = load_digits()
    grey = np.floor(originals.images * 255 / 16 + 0.5).astype(np.uint8)
    expected = [(image.tobytes(), k) for image, k in zip(grey, originals.target, strict=True)]
    assert sorted(found) == sorted(expected)


def test_enlargement_against_jax():
    images = load_digits().images[:50]
    expected = jax.image.resize(images, (50, 20, 20), "linear")
    np.testing.assert_allclose(embedded.enlarge(images, 20), expected, atol=1e-5)
    assert embedded.digits(20).splits["test"].images.shape == (359, 20, 20, 3)


def test_enlargement_by_hand():
    found = embedded.enlarge(np.array([[0.0, 8.0], [0.0, 8.0]]), 4)
    np.testing.assert_allclose(found, [[0, 2, 6, 8]] * 4)


def test_every_digit_is_in_each_split_and_always_the_same():
    first, second = embedded.digits(8), embedded.digits(8)
    assert first.checksum == second.checksum
    for split in first.splits.values():
        assert set(split.labels) == set(range(10))
    assert embedded.digits(9).checksum != first.checksum


def test_digits_mean_image_is_over_training_only():
    dataset = embedded.digits(8)
    expected = dataset.splits["train"].images.astype(np.float64).mean(0)
    np.testing.assert_allclose(dataset.mean_image, expected, rtol=1e-6)


def test_synthetic_images_can_be_told_apart():
    dataset = embedded.synthetic(60, 4, 16)
    train, test = dataset.splits["train"], dataset.splits["test"]
    assert train.images.shape == (60, 16, 16, 3) and set(train.labels) == set(range(4))
    assert not np.array_equal(train.images, test.images)
    means = np.stack([train.images[train.labels == k].mean(0) for k in range(4)])
    distances = ((test.images[:, None] - means) ** 2).sum((2, 3, 4))
    assert np.array_equal(distances.argmin(1), test.labels)
    assert embedded.synthetic(60, 4, 16).checksum == dataset.checksum
