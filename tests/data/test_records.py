"""Every image is verified when it is read; a bad one is named, and fatal or left out as asked."""

import itertools
import subprocess
import sys

import jax
import numpy as np
import pytest
from commands import error_line, lines, run, start
from image_files import jpeg, picture, write_folder
from stores import write_store

from alexnet_jax.cli import command
from alexnet_jax.data import pipeline, store
from alexnet_jax.data.records import Records, read_images
from alexnet_jax.errors import UserError
from alexnet_jax.prepare import __main__ as prepare

DEVICE, STREAM = 10**9, 0
COUNT, SIDE = 48, 60
SMALL = (
    "--config=configs/base.py",
    "--config.data.name=folder",
    f"--config.data.image_size={SIDE}",
    "--config.data.crop_size=52",
    "--config.model.width=0.0625",
    "--config.data.batch_size=16",
    "--config.train.log_every_steps=1",
    "--config.train.steps=6",
)


@pytest.fixture(params=["raw", "jpeg"])
def directory(request, tmp_path):
    return prepared(tmp_path, request.param)


def prepared(root, encoding, first=0):
    """A store of 48 pictures in two classes; the first picture's seed makes it another."""
    files = [
        {f"{i}.jpg": jpeg(picture(SIDE, SIDE, first + i)) for i in range(start, start + COUNT // 2)}
        for start in (0, COUNT // 2)
    ]
    content = {"train": dict(zip("ab", files, strict=True)), "val": {"a": files[0], "b": files[1]}}
    source = write_folder(root / f"source{first}", content)
    arguments = [f"--source={source}", f"--dir={root / 'store'}", f"--image_size={SIDE}"]
    values = command.parse(
        ["prepare", "--name=folder", f"--encoding={encoding}", *arguments], prepare.define_flags
    )
    prepare.main(values)
    return root / "store"


def corrupt(directory, row, split="train"):
    """Flips a bit in the middle of an image."""
    opened = store.open_store(directory).splits[split]
    if isinstance(opened.images, store.JpegRecords):
        record = opened.images.read([row])[0]
        path = opened.images.path
    else:
        path = opened.images.path
        record = np.load(path, mmap_mode="r")[row].tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(record) + len(record) // 2] ^= 4
    path.write_bytes(content)


def epoch(directory, device_bytes, on_bad_record):
    split = store.open_store(directory).splits["train"]
    batches = pipeline.training_batches(
        split, 16, seed=0, first_step=0, device_bytes=device_bytes, on_bad_record=on_bad_record
    )
    return list(itertools.islice(batches, 3))


def test_no_images_can_be_read(directory):
    """As the report does after an evaluation without a mistake."""
    split = store.open_store(directory).splits["train"]
    assert read_images(split, np.arange(0)).shape == (0, SIDE, SIDE, 3)


@pytest.mark.parametrize("device_bytes", [DEVICE, STREAM])
def test_a_bad_image_is_named(directory, device_bytes):
    corrupt(directory, 30)
    with pytest.raises(
        UserError, match=rf"image 30 of {directory}/train/images\..* cannot be used"
    ):
        epoch(directory, device_bytes, "fail")


@pytest.mark.parametrize("device_bytes", [DEVICE, STREAM])
def test_bad_images_are_left_out_of_the_batch_and_counted(directory, device_bytes, capsys):
    whole = epoch(directory, device_bytes, "skip")
    for row in (3, 30):
        corrupt(directory, row)
    for _ in range(2):  # what is held on the device is read once, but known the second time too
        left = epoch(directory, device_bytes, "skip")
        told = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
        assert len(told) == 2
        assert "1 so far" in told[0] and "2 so far" in told[1]
    for step, (a, b) in enumerate(zip(whole, left, strict=True)):
        bad = np.isin(pipeline.training_indices(COUNT, 16, 0, step), [3, 30])
        np.testing.assert_array_equal(b["mask"], ~bad)
        np.testing.assert_array_equal(a["label"], b["label"])
        np.testing.assert_array_equal(np.asarray(a["image"])[~bad], np.asarray(b["image"])[~bad])
        assert not np.asarray(b["image"])[bad].any()


@pytest.mark.parametrize("device_bytes", [DEVICE, STREAM])
def test_an_evaluation_never_leaves_an_image_out(directory, device_bytes):
    corrupt(directory, 3, "val")
    split = store.open_store(directory).splits["val"]
    with pytest.raises(UserError, match="image 3 of"):
        list(pipeline.evaluation_batches(split, 16, device_bytes=device_bytes))


def test_a_share_of_a_batch_leaves_none_out(directory):
    """Another process would not know of it, and compute with another mask."""
    corrupt(directory, 3)
    split = store.open_store(directory).splits["train"]
    batches = pipeline.training_batches(
        split, 16, seed=0, first_step=0, device_bytes=0, on_bad_record="skip", share=slice(0, 8)
    )
    with pytest.raises(UserError, match="image 3 of"):
        list(itertools.islice(batches, 12))


def test_a_file_that_is_cut_under_a_run_is_named(tmp_path):
    """And does not end the process, as it would if it were mapped into memory."""
    directory = prepared(tmp_path, "raw")
    batches = pipeline.evaluation_batches(
        store.open_store(directory).splits["train"], 1, device_bytes=0
    )
    next(batches)
    path = directory / "train" / "images.npy"
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(UserError, match=rf"image {COUNT - 1} of .* \(the file ends before it\)"):
        list(batches)


@pytest.mark.parametrize("name", ["labels.npy", "checksums.npy"])
def test_labels_that_are_cut_under_a_run_are_not_missed(tmp_path, name):
    """In a process of its own, which SIGBUS would end if they were mapped into memory."""
    directory = prepared(tmp_path, "raw")
    program = f"""
import os
from pathlib import Path
from alexnet_jax.data import pipeline, store
split = store.open_store(Path({str(directory)!r})).splits["train"]
os.truncate(Path({str(directory)!r}, "train", {name!r}), 0)
batches = pipeline.training_batches(split, 8, seed=0, first_step=0, device_bytes=10**9)
print(sum(int(next(batches)["label"].sum()) for _ in range({COUNT // 8})))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{COUNT // 2}\n"), done.stderr


@pytest.mark.parametrize("device_bytes", [DEVICE, STREAM])
def test_a_store_without_a_good_image_is_an_error(directory, device_bytes):
    for row in range(COUNT):
        corrupt(directory, row)
    with pytest.raises(
        UserError, match=rf"not one image of {directory}/train/images\..+ can be used"
    ):
        epoch(directory, device_bytes, "skip")


@pytest.mark.parametrize("device_bytes", [DEVICE, STREAM])
def test_a_batch_of_bad_images_is_replaced_by_the_one_before_it(directory, device_bytes):
    """Of the nine images of a part, in batches of four, the last of an epoch holds one."""
    whole = store.open_store(directory).splits["train"]
    indices = [pipeline.training_indices(9, 4, 0, step) for step in range(9)]
    corrupt(directory, int(indices[2][0]))
    corrupt(directory, int(indices[3][1]))
    part = store.Split(whole.images, whole.labels[:9], np.arange(9), whole.checksums)

    def steps(first):
        batches = pipeline.training_batches(
            part, 4, seed=0, first_step=first, device_bytes=device_bytes, on_bad_record="skip"
        )
        return list(itertools.islice(batches, 9 - first))

    found, resumed = steps(0), steps(2)
    assert all(batch["mask"].any() for batch in found)
    for key in ("image", "label", "mask"):
        np.testing.assert_array_equal(np.asarray(found[2][key]), np.asarray(found[1][key]))
        for one, other in zip(found[2:], resumed, strict=True):
            np.testing.assert_array_equal(np.asarray(one[key]), np.asarray(other[key]))
    for step in (0, 1, 3, 4):
        bad = np.isin(indices[step], [indices[2][0], indices[3][1]])
        np.testing.assert_array_equal(found[step]["mask"], ~bad)


def test_single_images_that_are_bad_are_replaced(directory):
    """Also where the batch before is bad, and at the start of the epoch."""
    whole = store.open_store(directory).splits["train"]
    part = store.Split(whole.images, whole.labels[:3], np.arange(3), whole.checksums)
    order = [int(pipeline.training_indices(3, 1, 0, step)[0]) for step in range(3)]
    for row in order[:2]:
        corrupt(directory, row)
    batches = pipeline.training_batches(
        part, 1, seed=0, first_step=0, device_bytes=DEVICE, on_bad_record="skip"
    )
    found = [next(batches) for _ in range(3)]
    for batch in found:
        np.testing.assert_array_equal(np.asarray(batch["image"]), np.asarray(found[2]["image"]))
        assert batch["mask"] == [1]


@pytest.mark.slow
def test_a_run_names_it_or_goes_on_without_it(tmp_path):
    directory = prepared(tmp_path, "raw")
    corrupt(directory, 30)
    arguments = (*SMALL, f"--config.data.dir={directory}", f"--workdir={tmp_path / 'run'}")
    line = error_line(run("main", *arguments, code=2))
    assert "image 30 of" in line and "data.on_bad_record=skip" in line
    done = run("main", *arguments, "--config.data.on_bad_record=skip")
    assert done.stdout.count("left out of training, 1 so far") == 1
    written = [line for line in lines(tmp_path / "run") if "train/loss" in line]
    assert [line["step"] for line in written] == list(range(1, 7))
    assert [line["val/examples"] for line in lines(tmp_path / "run") if "val/loss" in line] == [
        COUNT,
        COUNT,
    ]


@pytest.mark.slow
def test_a_run_goes_on_when_its_last_batch_is_one_bad_image(tmp_path):
    """Three steps an epoch, the last of them of a single image."""
    write_store(tmp_path / "store", {"train": 9, "val": 4}, side=SIDE)
    corrupt(tmp_path / "store", int(pipeline.training_indices(9, 4, 0, 5)[0]))
    run(
        "main", *SMALL, f"--config.data.dir={tmp_path / 'store'}", f"--workdir={tmp_path / 'run'}",
        "--config.data.batch_size=4", "--config.train.steps=9",
        "--config.data.on_bad_record=skip",
    )  # fmt: skip
    written = [line for line in lines(tmp_path / "run") if "train/loss" in line]
    assert [line["step"] for line in written] == list(range(1, 10))
    assert all(np.isfinite(line["train/loss"]) for line in written)


@pytest.mark.slow
def test_a_data_set_that_has_changed_is_refused_on_resume(tmp_path):
    directory = prepared(tmp_path, "raw")
    arguments = (*SMALL, f"--config.data.dir={directory}", f"--workdir={tmp_path / 'run'}")
    run("main", *arguments, "--config.train.steps=3")
    directory.rename(tmp_path / "as it was")
    prepared(tmp_path, "raw", first=1)
    written = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    line = error_line(run("main", *arguments, code=2))
    assert "'folder' is not the one that this run began with" in line
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == written
    directory.rename(tmp_path / "another")
    (tmp_path / "as it was").rename(directory)
    run("main", *arguments)


@pytest.mark.slow
def test_corruption_under_a_run_is_found(tmp_path):
    """The store was whole when it was opened; the streaming path verifies what it reads."""
    directory = prepared(tmp_path, "raw")
    process = start(
        "main", *SMALL, "--config.train.steps=100000", f"--config.data.dir={directory}",
        "--config.data.device_megabytes=0", f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    while len(lines(tmp_path / "run")) < 3:
        assert process.poll() is None
    with (directory / "train" / "images.npy").open("rb+") as file:
        file.seek(-1000, 2)
        file.write(bytes(500))
    out, err = process.communicate(timeout=60)
    line = error_line(subprocess.CompletedProcess([], process.returncode, out, err))
    assert process.returncode == 2 and f"image {COUNT - 1} of" in line


def test_batches_are_read_in_place_by_jax(directory):
    """Memory for a batch is aligned as jax needs it to take it over without a copy."""
    split = store.open_store(directory).splits["train"]
    pixels = Records(split, skip=False).new(3)
    assert pixels.shape == (3, SIDE, SIDE, 3)
    assert jax.device_put(pixels).unsafe_buffer_pointer() == pixels.ctypes.data


def test_memory_is_given_out_again_when_nobody_looks_at_it(directory):
    """Not while a part of it is read, by jax for one; and what was in it does not matter."""
    records = Records(store.open_store(directory).splits["train"], skip=False)
    first = records.recycled(3)
    place, part = first.ctypes.data, jax.device_put(first)
    first[:] = 7
    del first
    other = records.recycled(3)
    assert other.ctypes.data != place and (np.asarray(part) == 7).all()
    del part
    jax.device_put(np.zeros(3))  # jax lets go of what it read with the next thing it is given
    assert records.recycled(3).ctypes.data == place
