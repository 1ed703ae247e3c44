import numpy as np
import pytest

from alexnet_jax.data import image_statistics


def test_mean_image_is_the_mean_of_every_pixel():
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 5, 3), dtype=np.uint8)
    expected = images.astype(np.float64).mean(axis=0)
    mean = image_statistics.mean_image(image_statistics.summed(images))
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (32, 32), (31, 33), (256, 256), (300, 257)])
def test_products_are_exact(shape):
    rng = np.random.default_rng(0)
    for image in (rng.integers(0, 256, (*shape, 3), dtype=np.uint8), np.full((*shape, 3), 255)):
        pixels = image.reshape(-1, 3).astype(object)  # Python's own whole numbers
        assert image_statistics.colour_products(image).tolist() == (pixels.T @ pixels).tolist()


def test_colour_components_of_colours_on_known_axes():
    # Two colours at ±30 along (1, 2, 2)/3 and ±12 along (2, 1, −2)/3, equally often.
    first, second = np.array([1, 2, 2]) / 3, np.array([2, 1, -2]) / 3
    pixels = [100 + a * 30 * first + b * 12 * second for a in (-1, 1) for b in (-1, 1)]
    image = np.array(pixels).reshape(1, 2, 2, 3)
    assert np.array_equal(image, np.rint(image))
    colour = image_statistics.colour_components(image_statistics.summed(image.astype(np.uint8)))
    np.testing.assert_allclose(colour.stdevs, [30, 12, 0], atol=1e-4)
    np.testing.assert_allclose(colour.components[0], first, atol=1e-5)
    np.testing.assert_allclose(np.abs(colour.components[1]), np.abs(second), atol=1e-5)


def test_colour_components_against_numpy_covariance():
    rng = np.random.default_rng(1)
    mixing = np.array([[40, 8, 3], [35, -6, 4], [30, 2, -9]])
    pixels = np.clip(120 + rng.normal(size=(6, 8, 8, 3)) @ mixing.T, 0, 255).astype(np.uint8)
    colour = image_statistics.colour_components(image_statistics.summed(pixels))
    covariance = np.cov(pixels.reshape(-1, 3).T.astype(np.float64), bias=True)
    rebuilt = colour.components.T @ np.diag(colour.stdevs**2) @ colour.components
    np.testing.assert_allclose(rebuilt, covariance, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(colour.components @ colour.components.T, np.eye(3), atol=1e-6)
    assert list(colour.stdevs) == sorted(colour.stdevs, reverse=True)
    assert all(row[np.abs(row).argmax()] > 0 for row in colour.components)
