import hashlib
import io
import json
import os
import subprocess
import tarfile

import numpy as np
import pytest
from image_files import png

from alexnet_jax.errors import UserError
from alexnet_jax.prepare.originals import cifar10

COUNT = 6  # images in a file here, 10,000 in the original


def small_records():
    """Records made byte by byte as the data set's page describes them, and their sums."""
    rng = np.random.default_rng(0)
    records = {}
    for name in cifar10.SHA1:
        rows = []
        for _ in range(COUNT):
            label, planes = rng.integers(10), rng.integers(0, 256, (3, 32, 32), dtype=np.uint8)
            rows.append(
                bytes([label]) + planes[0].tobytes() + planes[1].tobytes() + planes[2].tobytes()
            )
        records[name] = b"".join(rows)
    return records, {name: hashlib.sha1(data).hexdigest() for name, data in records.items()}


RECORDS, SUMS = small_records()


def npm_files():
    """The files of the npm archive: a PNG with a row of pixels for each image, and the labels."""
    files, labels = {}, {"train": [], "test": []}
    for name, data in RECORDS.items():
        rows = [data[i * 3073 : (i + 1) * 3073] for i in range(COUNT)]
        labels["test" if name == "test_batch" else "train"] += [row[0] for row in rows]
        planes = np.array([np.frombuffer(row[1:], np.uint8).reshape(3, 1024) for row in rows])
        files[f"{name}.png"] = png(np.ascontiguousarray(planes.transpose(0, 2, 1)))
    files |= {f"{split}_lables.json": json.dumps(x).encode() for split, x in labels.items()}
    return files


def binary_files():
    return {f"{name}.bin": data for name, data in RECORDS.items()}


def write_archive(path, folder, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def check(original):
    assert original.sizes == {"train": 5 * COUNT, "test": COUNT}
    assert original.class_names[0] == "airplane" and original.class_names[9] == "truck"
    for split, names in (("train", list(RECORDS)[:5]), ("test", ["test_batch"])):
        data = b"".join(RECORDS[name] for name in names)
        for index, image in enumerate(original.read(split)):
            at = index * 3073
            assert image.label == data[at]
            for channel, row, column in ((0, 0, 0), (1, 3, 31), (2, 31, 5)):
                expected = data[at + 1 + channel * 1024 + row * 32 + column]
                assert image.content[row, column, channel] == expected


@pytest.mark.parametrize("files", [binary_files, npm_files])
@pytest.mark.parametrize("packed", [True, False])
def test_the_same_images_from_every_source(tmp_path, files, packed):
    if packed:
        source = write_archive(tmp_path / "it.tgz", "package", files())
    else:
        source = tmp_path
        (tmp_path / "package").mkdir()
        for name, content in files().items():
            (tmp_path / "package" / name).write_bytes(content)
    check(cifar10.open_files(source, SUMS))


def test_tfds_examples_are_put_back_in_order():
    def examples(split):
        names = ["test_batch"] if split == "test" else list(RECORDS)[:5]
        data = np.frombuffer(b"".join(RECORDS[name] for name in names), np.uint8).reshape(-1, 3073)
        for index in np.random.default_rng(0).permutation(len(data)):
            image = data[index, 1:].reshape(3, 32, 32).transpose(1, 2, 0)
            yield {
                "id": b"%s_%05d" % (split.encode(), index),
                "image": image,
                "label": data[index, 0],
            }

    check(cifar10.open_examples(examples, "TFDS", SUMS))


def test_other_data_is_refused(tmp_path):
    with pytest.raises(UserError, match="data_batch_1 is not the original"):
        cifar10.open_files(write_archive(tmp_path / "it.tgz", "x", binary_files()))
    with pytest.raises(UserError, match="holds no CIFAR-10"):
        cifar10.open_files(write_archive(tmp_path / "empty.tgz", "x", {}))
    (tmp_path / "text.tgz").write_text("no archive")
    with pytest.raises(UserError, match="cannot be read as a tar archive"):
        cifar10.open_files(tmp_path / "text.tgz")


BROKEN = {
    "labels that are no list": ({"train_lables.json": b'{"0": 1}'}, "train_lables.json is no list"),
    "labels that are text": ({"train_lables.json": b'["cat"]'}, "train_lables.json is no list"),
    "labels out of range": ({"test_lables.json": b"[3, 256]"}, "test_lables.json is no list"),
    "labels that are no JSON": ({"test_lables.json": b"\xff"}, "test_lables.json is no list"),
    "labels without an end": ({"test_lables.json": b"[" * 99_999}, "test_lables.json is no list"),
    "too few labels": ({"test_lables.json": b"[1, 2]"}, "test_lables.json has too few labels"),
    "a picture that is cut": (
        {"data_batch_3.png": npm_files()["data_batch_3.png"][:900]},
        "data_batch_3.png cannot be decoded: it is truncated",
    ),
    "a picture that is text": ({"test_batch.png": b"<html>"}, "test_batch.png is no JPEG, PNG"),
    "a picture of another shape": (
        {"test_batch.png": png(np.zeros((9, 9, 3), np.uint8))},
        "test_batch.png has no rows",
    ),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named(tmp_path, change, message):
    source = write_archive(tmp_path / "it.tgz", "package", npm_files() | change)
    with pytest.raises(UserError, match=message):
        cifar10.open_files(source, SUMS)


def test_a_huge_member_is_refused_before_it_is_read(tmp_path):
    """A sparse file of 6 GB takes a few bytes in an archive, and all of the memory when read."""
    (tmp_path / "data_batch_1.bin").touch()
    os.truncate(tmp_path / "data_batch_1.bin", 6 * 10**9)
    with pytest.raises(UserError, match=r"data_batch_1\.bin is not the original \(6,000,000,000"):
        cifar10.open_files(tmp_path, SUMS)
    packed = ["tar", "--sparse", "-cf", tmp_path / "it.tar", "-C", tmp_path, "data_batch_1.bin"]
    subprocess.run(packed, check=True)
    assert (tmp_path / "it.tar").stat().st_size < 100_000
    with pytest.raises(UserError, match=r"data_batch_1\.bin is not the original \(6,000,000,000"):
        cifar10.open_files(tmp_path / "it.tar", SUMS)


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_archive_is_named(tmp_path, damage):
    source = write_archive(tmp_path / "it.tgz", "x", binary_files())
    content = bytearray(source.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[2000:2050] = b"\xff" * 50
    source.write_bytes(content)
    with pytest.raises(UserError, match=r"it\.tgz cannot be read as a tar archive: give the"):
        cifar10.open_files(source, SUMS)
