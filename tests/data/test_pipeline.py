import itertools
import subprocess
import sys

import numpy as np
import pytest
from stores import write_store

from alexnet_jax.data import pipeline
from alexnet_jax.data.store import Split

DEVICE, STREAM = 10**9, 0  # device_bytes: everything is held on the device, or nothing


def numbered_split(count, rows=None):
    """Image i is of the grey level i % 256 and has label i."""
    levels = np.arange(count, dtype=np.uint8)[:, None, None, None]
    labels = np.arange(count, dtype=np.int32)
    images = np.broadcast_to(levels, (count, 4, 4, 3))
    return Split(images, labels if rows is None else labels[rows], rows)


class CountedReads:
    """Images in memory that note which of them are read."""

    def __init__(self, images):
        self.images, self.shape, self.read = images, images.shape, []

    def __getitem__(self, row):
        self.read.append(row)
        return self.images[row]


def seen(batches):
    """The labels of the real images, and a check that images and labels belong together."""
    found = []
    for batch in batches:
        real = batch["mask"] == 1
        assert np.array_equal(np.asarray(batch["image"])[:, 0, 0, 0], batch["label"])
        found.append(batch["label"][real])
    return found


def train(split, batch_size, steps, first_step=0, seed=0, device_bytes=DEVICE):
    batches = pipeline.training_batches(
        split, batch_size, seed=seed, first_step=first_step, device_bytes=device_bytes
    )
    return list(itertools.islice(batches, steps))


@pytest.mark.parametrize("device_bytes", [DEVICE, STREAM])
@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (12, 4), (3, 5), (7, 1)])
def test_every_epoch_is_a_permutation(count, batch_size, device_bytes):
    steps = pipeline.steps_per_epoch(count, batch_size)
    batches = train(numbered_split(count), batch_size, 3 * steps, device_bytes=device_bytes)
    epochs = [np.concatenate(seen(batches[i * steps : (i + 1) * steps])) for i in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(count))
    assert count == 3 or not np.array_equal(epochs[0], epochs[1])
    assert all(batch["image"].shape == (batch_size, 4, 4, 3) for batch in batches)


@pytest.mark.parametrize("device_bytes", [DEVICE, STREAM])
def test_a_restart_sees_what_an_uninterrupted_run_sees(device_bytes):
    split = numbered_split(11)
    whole = seen(train(split, 4, 9, device_bytes=device_bytes))
    for first_step in (1, 2, 3, 5):
        rest = seen(train(split, 4, 9 - first_step, first_step, device_bytes=device_bytes))
        for a, b in zip(rest, whole[first_step:], strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_order_depends_on_the_seed():
    orders = [np.concatenate(seen(train(numbered_split(50), 10, 5, seed=s))) for s in (0, 1)]
    assert not np.array_equal(*orders)


def test_device_and_stream_give_the_same_batches():
    split = numbered_split(200, rows=np.arange(3, 200, 7))
    both = [train(split, 8, 9, device_bytes=d) for d in (DEVICE, STREAM)]
    for a, b in zip(*both, strict=True):
        for key in ("image", "label", "mask"):
            assert a[key].dtype == b[key].dtype
            np.testing.assert_array_equal(np.asarray(a[key]), b[key])


@pytest.mark.parametrize("device_bytes", [DEVICE, STREAM])
@pytest.mark.parametrize("batch_size", [1, 3, 13, 20])
def test_evaluation_sees_each_image_once_in_order(batch_size, device_bytes):
    split = numbered_split(13)
    batches = list(pipeline.evaluation_batches(split, batch_size, device_bytes=device_bytes))
    assert list(np.concatenate(seen(batches))) == list(range(13))
    assert sum(batch["mask"].sum() for batch in batches) == 13


def test_types_of_a_batch():
    (batch,) = train(numbered_split(10), 4, 1)
    types = {key: str(value.dtype) for key, value in batch.items()}
    assert types == {"image": "uint8", "label": "int32", "mask": "float32"}


def test_the_device_copy_is_made_once():
    split = numbered_split(10)
    train(split, 4, 1)
    kept = pipeline._ON_DEVICE[split]
    train(split, 4, 1)
    assert pipeline._ON_DEVICE[split] is kept


def test_digits_need_no_tensorflow():
    program = (
        "import sys\n"
        "from alexnet_jax import data\n"
        "from alexnet_jax.data import pipeline\n"
        "from configs import base\n"
        "settings = base.get_config().data\n"
        "data.check_available(settings)\n"
        "split = data.open_dataset(settings).splits['train']\n"
        "next(pipeline.training_batches(split, 8, seed=0, first_step=0, device_bytes=10**9))\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_raw_store_held_on_the_device_needs_no_tensorflow(tmp_path):
    write_store(tmp_path, {"train": 10}, "raw")
    program = (
        "import pathlib, sys\n"
        "from alexnet_jax.data import pipeline, store\n"
        f"split = store.open_store(pathlib.Path({str(tmp_path)!r})).splits['train']\n"
        "next(pipeline.training_batches(split, 8, seed=0, first_step=0, device_bytes=10**9))\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_stream_reads_only_so_far_ahead(tmp_path):
    """So that no more than that is held in memory, however large the store."""
    split = numbered_split(2000)
    counted = CountedReads(split.images)
    batches = pipeline.evaluation_batches(Split(counted, split.labels), 10, device_bytes=0)
    for taken in range(1, 40):
        next(batches)
        ahead = pipeline.BATCHES_AHEAD + pipeline.READERS + 1  # waiting, being read, handed over
        assert len(counted.read) <= 10 * (taken + ahead)


@pytest.mark.slow
def test_a_program_ends_while_it_reads(tmp_path):
    """It keeps the iterator to its end, as a script or a notebook does."""
    write_store(tmp_path, {"train": 256}, side=128)
    program = f"""
from pathlib import Path
from alexnet_jax.data import pipeline, store
split = store.open_store(Path({str(tmp_path)!r})).splits["train"]
batches = pipeline.training_batches(split, 256, seed=0, first_step=0, device_bytes=0)
print(next(batches)["image"].shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "(256, 128, 128, 3)\n", done.stderr
    assert done.returncode == 0
