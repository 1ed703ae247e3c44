import numpy as np
import pytest
from image_files import picture

from alexnet_jax.data import images, pipeline, store
from alexnet_jax.errors import UserError
from alexnet_jax.prepare import store_files, store_writer
from alexnet_jax.prepare.originals.base import Original, OriginalImage

COUNT = 30
PICTURES = np.stack([picture(32, 32, seed) for seed in range(COUNT)])


def read(split):
    for index, image in enumerate(PICTURES):
        yield OriginalImage(f"{split} {index}", image, index % 2)


@pytest.fixture
def jpeg_store(tmp_path):
    form = store_writer.Form(32, resize=False, encoding="jpeg", skip_bad=False)
    store_writer.begin(tmp_path, {})
    original = Original(("a", "b"), {"train": COUNT}, read)
    store_writer.write_store(tmp_path, "folder", original, form)
    return tmp_path


def test_jpeg_records_come_back_in_order(jpeg_store):
    split = store.open_store(jpeg_store).splits["train"]
    batches = list(pipeline.evaluation_batches(split, 8, device_bytes=10**9))
    found = np.concatenate([batch["image"] for batch in batches])
    labels = np.concatenate([batch["label"] for batch in batches])
    assert found.dtype == np.uint8 and found.shape == (32, 32, 32, 3)  # two are padding
    assert np.abs(found[:COUNT].astype(int) - PICTURES).mean() < 3
    assert list(labels[:COUNT]) == [i % 2 for i in range(COUNT)]
    assert [batch["mask"].sum() for batch in batches] == [8, 8, 8, 6]


def test_jpeg_records_are_decoded_as_tensorflow_does(jpeg_store):
    split = store.open_store(jpeg_store).splits["train"]
    (batch,) = pipeline.evaluation_batches(split, COUNT, device_bytes=0)
    for found, file in zip(batch["image"], split.images.read(range(COUNT)), strict=True):
        np.testing.assert_array_equal(found, images.decode(file, upright=False))


def test_jpeg_records_of_a_part_and_in_training_order(jpeg_store):
    whole = store.open_store(jpeg_store).splits["train"]
    part = store.Split(whole.images, whole.labels[5:12], np.arange(5, 12))
    arguments = {"seed": 3, "first_step": 4, "device_bytes": 0}
    batch = next(pipeline.training_batches(part, 4, **arguments))
    expected = PICTURES[5 + pipeline.training_indices(7, 4, 3, 4)]
    assert np.abs(batch["image"].astype(int) - expected).mean() < 3


def test_a_corrupt_record_is_named(jpeg_store):
    path = jpeg_store / "train" / "images.array_record"
    content = bytearray(path.read_bytes())
    records = store.open_store(jpeg_store).splits["train"].images.read(range(COUNT))
    content[content.index(records[17]) + 100] ^= 255
    path.write_bytes(content)
    split = store.open_store(jpeg_store).splits["train"]
    batches = pipeline.evaluation_batches(split, 8, device_bytes=0)
    next(batches)
    with pytest.raises(UserError, match=r"image 17 of .*train.images\.array_record"):
        list(batches)


@pytest.mark.parametrize(
    "bad",
    [
        b"no image",
        b"",
        images.encode_jpeg(PICTURES[1])[:300],
        images.encode_jpeg(picture(16, 16)),
        images.encode_jpeg(picture(40, 40)),
    ],
    ids=["text", "empty", "cut", "too small", "too large"],
)
def test_a_record_that_is_no_image_of_its_size_is_named(tmp_path, bad):
    with store_files.jpeg_writer(tmp_path, 3, 32) as write_record:
        good = images.encode_jpeg(PICTURES[0])
        for record in (good, bad, good):
            write_record(record)
    records = store.JpegRecords(tmp_path / "images.array_record", (3, 32, 32, 3))
    split = store.Split(records, np.zeros(3, np.int32))
    with pytest.raises(UserError, match="image 1 of"):
        list(pipeline.evaluation_batches(split, 2, device_bytes=0))


def test_a_file_without_any_record_is_named(jpeg_store):
    path = jpeg_store / "train" / "images.array_record"
    path.write_bytes(bytes(path.stat().st_size))
    split = store.open_store(jpeg_store).splits["train"]
    with pytest.raises(UserError, match=r"image 0 of .*images\.array_record cannot be used"):
        list(pipeline.evaluation_batches(split, 8, device_bytes=0))


def test_fewer_images_than_announced(tmp_path):
    with store_files.raw_writer(tmp_path, 10**12, 32) as write_record:
        for image in PICTURES[:3]:
            write_record(image.data)
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), PICTURES[:3])
