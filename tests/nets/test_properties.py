"""For any size that hypothesis thinks of: crop, views, LRN, schedules, and shares of a batch."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_jax import optim, preprocess
from alexnet_jax.data import Split
from alexnet_jax.data.pipeline import evaluation_batches, steps_per_epoch
from alexnet_jax.nets import ops

FEW = settings(max_examples=15, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


def random_images(seed: int, number: int, side: int) -> np.ndarray:
    shape = (number, side, side, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@given(SEEDS, st.integers(1, 9), st.integers(0, 6), st.data())
@FEW
def test_a_crop_is_a_slice(seed, size, margin, data):
    images = random_images(seed, 3, size + margin)
    corners = st.lists(st.integers(0, margin), min_size=3, max_size=3)
    rows, columns = data.draw(corners), data.draw(corners)
    cropped = preprocess.crop(jnp.asarray(images), jnp.array(rows), jnp.array(columns), size)
    for image, row, column, found in zip(images, rows, columns, cropped, strict=True):
        np.testing.assert_array_equal(found, image[row : row + size, column : column + size])


@given(SEEDS, st.integers(1, 9), st.integers(0, 7))
@FEW
def test_ten_views_are_corners_and_centre_and_their_mirrors(seed, size, margin):
    images = random_images(seed, 2, size + margin)
    pixels = preprocess.InputStats(jnp.zeros(3), jnp.ones(3))
    found = [
        np.asarray(preprocess.view(jnp.asarray(images), pixels, size, *view))
        for view in preprocess.VIEWS[10]
    ]
    places = [(0, 0), (0, margin), (margin, 0), (margin, margin), (margin // 2, margin // 2)]
    wanted = [images[:, r : r + size, c : c + size].astype(np.float32) for r, c in places]
    wanted += [view[:, :, ::-1] for view in wanted]
    assert len(found) == len(wanted)
    assert sorted(x.tobytes() for x in found) == sorted(
        np.ascontiguousarray(x).tobytes() for x in wanted
    )


@given(
    SEEDS,
    st.integers(1, 12),
    st.sampled_from([1, 3, 5, 9]),
    st.floats(0.5, 4),
    st.floats(0, 0.1),
    st.sampled_from([0.5, 0.75, 1.0]),
)
@FEW
def test_lrn_is_the_papers_formula(seed, maps, size, k, alpha, beta):
    x = np.random.default_rng(seed).normal(0, 3, (2, 2, 2, maps)).astype(np.float32)
    wanted = np.empty(x.shape)
    for i in range(maps):
        near = x[..., max(0, i - size // 2) : i + size // 2 + 1].astype(np.float64)
        wanted[..., i] = x[..., i] / (k + alpha * (near**2).sum(-1)) ** beta
    found = ops.response_norm(jnp.asarray(x), (3,), size, k, alpha, beta)
    np.testing.assert_allclose(found, wanted, rtol=2e-6)


@given(
    st.lists(st.integers(1, 50), max_size=4, unique=True).map(sorted),
    st.integers(1, 30),
    st.integers(0, 2000),
)
@FEW
def test_a_listed_value_holds_from_its_epoch_on(epochs, epoch_steps, step):
    changes = [(epoch, 1.0 / (i + 2)) for i, epoch in enumerate(epochs)]
    wanted = 1.0
    for epoch, value in changes:
        if step // epoch_steps >= epoch:
            wanted = value
    assert optim.listed(1.0, changes, epoch_steps)(step) == np.float32(wanted)


@given(st.floats(1.5, 1000), st.integers(2, 6), st.integers(10, 1000), st.integers(0, 999))
@FEW
def test_dexp_goes_down_in_equal_steps(target, parts, total, step):
    step = min(step, total - 1)
    schedule = optim.dexp(0.01, target, parts, total)
    part = sum(step >= round(i * total / parts) for i in range(1, parts))
    wanted = 0.01 * target ** (-part / (parts - 1))
    np.testing.assert_allclose(schedule(step), wanted, rtol=1e-5)


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 5))
@FEW
def test_shares_of_any_number_of_hosts_are_disjoint_and_complete(images, hosts, each):
    """Image i is filled with i, so that what is read tells which image it is."""
    batch = hosts * each
    pixels = np.broadcast_to(
        np.arange(images, dtype=np.uint8)[:, None, None, None], (images, 1, 1, 3)
    )
    split = Split(np.ascontiguousarray(pixels), np.arange(images, dtype=np.int32))
    shares = [slice(i * each, (i + 1) * each) for i in range(hosts)]
    parts = [
        list(evaluation_batches(split, batch, device_bytes=10**6, share=share)) for share in shares
    ]
    seen = []
    for step in range(steps_per_epoch(images, batch)):
        read = np.concatenate([np.asarray(part[step]["image"])[:, 0, 0, 0] for part in parts])
        real = parts[0][step]["mask"] > 0
        np.testing.assert_array_equal(read, parts[0][step]["label"])
        seen += read[real].tolist()
    assert seen == list(range(images))
