import json

import numpy as np
import pytest
from stores import write_store

from alexnet_jax import data
from alexnet_jax.data import pipeline, store
from alexnet_jax.errors import UserError
from alexnet_jax.prepare import store_writer
from configs import base


def settings(**changes):
    config = base.get_config().data
    config.update(changes)
    return config


def test_a_raw_store_comes_back(tmp_path):
    images = write_store(tmp_path, {"train": 40, "val": 6, "test": 5})
    config = settings(name="folder", dir=str(tmp_path), image_size=8, crop_size=8)
    dataset = data.open_dataset(config)
    sizes = {"train": 40, "val": 6, "test": 5}
    assert data.summary(config) == data.Summary(("a", "b", "c"), sizes, 8, dataset.checksum)
    assert dataset.class_names == ("a", "b", "c") and dataset.image_size == 8
    for name, expected in images.items():
        split = dataset.splits[name]
        (batch,) = pipeline.evaluation_batches(split, len(expected), device_bytes=0)
        np.testing.assert_array_equal(batch["image"], expected)
        np.testing.assert_array_equal(split.labels, np.arange(len(expected)) % 3)
    np.testing.assert_allclose(dataset.mean_image, images["train"].mean(0), rtol=1e-6)
    assert (tmp_path / "labels.txt").read_text() == "a\nb\nc\n"


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_opening_reads_no_image(tmp_path, encoding):
    write_store(tmp_path, {"train": 40, "val": 6}, encoding)
    dataset = store.open_store(tmp_path)
    assert not {"_reader", "_file"} & vars(dataset.splits["train"].images).keys()


def test_the_checksum_tells_content_apart(tmp_path):
    for name, count in (("one", 5), ("two", 5), ("three", 6)):
        write_store(tmp_path / name, {"train": count})
    sums = [store.open_store(tmp_path / name).checksum for name in ("one", "two", "three")]
    assert sums[0] == sums[1] != sums[2]


def test_validation_images_are_taken_from_training_once_and_for_all(tmp_path):
    images = write_store(tmp_path, {"train": 50, "test": 5})
    config = settings(name="folder", dir=str(tmp_path), image_size=8, crop_size=8, val_fraction=0.2)
    dataset = data.open_dataset(config)
    train, val = dataset.splits["train"], dataset.splits["val"]
    assert data.summary(config).sizes == {"train": 40, "test": 5, "val": 10}
    assert (len(train), len(val)) == (40, 10)
    assert sorted([*train.rows, *val.rows]) == list(range(50))
    assert np.array_equal(val.rows, data.open_dataset(config).splits["val"].rows)
    np.testing.assert_array_equal(val.labels, val.rows % 3)
    np.testing.assert_allclose(dataset.mean_image, images["train"].mean(0), rtol=1e-6)
    config.val_fraction = 0.0
    assert set(data.open_dataset(config).splits) == {"train", "test"}


def test_summary_of_embedded_sets_agrees_with_what_is_opened():
    for config in (settings(), settings(name="synthetic", synthetic_images=30, val_fraction=0.3)):
        dataset = data.open_dataset(config)
        sizes = {name: len(split) for name, split in dataset.splits.items()}
        assert data.summary(config) == data.Summary(dataset.class_names, sizes, dataset.image_size)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "nonesuch"}, "'nonesuch'"),
        ({"name": "cifar"}, "did you mean cifar10"),
        ({"name": "cifar10", "dir": "none"}, r"prepare --name=cifar10 --dir=none`"),
        ({"name": "imagenet2012", "dir": "none"}, "img_train.tar and ILSVRC2012_img_val.tar"),
        ({"name": "folder", "dir": "none"}, "prepare --name=folder --source=DIR"),
        ({"image_size": 7, "crop_size": 7}, "image_size is 7"),
        ({"val_fraction": 0.9999}, "no training image"),
    ],
)
def test_a_wrong_setting_is_named(changes, message):
    with pytest.raises(UserError, match=message) as mistake:
        data.check_available(settings(**changes))
    assert "\n" not in str(mistake.value)


def test_a_crop_may_not_be_larger_than_the_stored_images():
    data.check_crop(settings(crop_size=72))
    with pytest.raises(UserError, match="crop_size 73 is larger"):
        data.check_crop(settings(crop_size=73))


def test_a_store_that_does_not_fit_is_refused(tmp_path):
    write_store(tmp_path, {"train": 5}, name="cifar10")
    fits = {"name": "cifar10", "dir": str(tmp_path), "image_size": 8, "crop_size": 8}
    data.check_available(settings(**fits))
    for changes, message in [
        ({"name": "folder"}, "holds cifar10, not folder"),
        ({"image_size": 72}, "set data.image_size=8"),
    ]:
        with pytest.raises(UserError, match=message):
            data.check_available(settings(**fits | changes))


def test_a_broken_store_is_refused(tmp_path):
    config = settings(name="folder", dir=str(tmp_path), image_size=8, crop_size=8)
    write_store(tmp_path, {"train": 5})
    manifest = tmp_path / "manifest.json"
    good = manifest.read_text()
    images = tmp_path / "train" / "images.npy"
    whole = images.read_bytes()
    images.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=f"images.npy has {len(whole) - 1} bytes"):
        data.check_available(config)
    images.unlink()
    with pytest.raises(UserError, match=r"images.npy has 0 bytes"):
        data.check_available(config)
    manifest.write_text(json.dumps(json.loads(good) | {"version": 99}))
    with pytest.raises(UserError, match="version 2"):
        data.check_available(config)
    manifest.write_text(good[:50])
    with pytest.raises(UserError, match="cannot be read"):
        data.check_available(config)


def test_a_half_written_store_is_refused(tmp_path):
    store_writer.begin(tmp_path, {"name": "folder"})
    with pytest.raises(UserError, match=r"half-written.*prepare --name=folder"):
        data.check_available(settings(name="folder", dir=str(tmp_path)))
