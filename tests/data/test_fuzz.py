"""Broken, hostile and random files: each is refused by name; nothing crashes, hangs or lies."""

import json
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from commands import TOP
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import image_file, jpeg, oriented, picture, png, write_folder

from alexnet_jax.cli import command
from alexnet_jax.data import images, pipeline, store
from alexnet_jax.errors import UserError
from alexnet_jax.prepare import __main__ as prepare

PNG_START = b"\x89PNG\r\n\x1a\n"
GOOD = {
    "jpeg": jpeg(picture(24, 30)),
    "png": png(picture(24, 30)),
    "palette": png(picture(9, 9), "P"),
    "upright": oriented(picture(24, 30), 6, "jpg"),
} | {x: image_file(picture(24, 30), x) for x in ("webp", "tiff", "bmp", "ppm")}
FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def decoded_or_refused(content):
    """Pixels of the size that the header states, or a BadImageError; nothing else."""
    try:
        pixels = images.decode(content, upright=True)
    except images.BadImageError as refusal:
        assert str(refusal)
        return
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    assert pixels.shape[0] * pixels.shape[1] <= images.MOST_PIXELS


@FUZZ
@given(st.binary(max_size=400))
def test_random_bytes(content):
    decoded_or_refused(content)


@FUZZ
@given(st.sampled_from([*images.STARTS, b"GIF89a"]), st.data())
def test_random_bytes_after_a_signature(start, data):
    decoded_or_refused(start + data.draw(st.binary(max_size=400)))


@FUZZ
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_truncated(kind, data):
    content = GOOD[kind]
    decoded_or_refused(content[: data.draw(st.integers(0, len(content) - 1))])


@FUZZ
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_overwritten(kind, data):
    content = bytearray(GOOD[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    decoded_or_refused(bytes(content))


def png_of(width, height, rows=b""):
    """A well-formed PNG that claims a size, with as many pixels as are given."""

    def chunk(kind, body):
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows, 9))
    return PNG_START + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def jpeg_of(width, height, before=b""):
    """A JPEG whose frame header claims a size."""
    content = bytearray(GOOD["jpeg"])
    at = next(i for i in range(len(content)) if content[i] == 0xFF and content[i + 1] == 0xC0)
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(content[:2]) + before + bytes(content[2:])


@pytest.mark.parametrize(
    "content",
    [
        png_of(2**31 - 1, 2**31 - 1),
        png_of(100_000, 100_000, bytes(10**7)),
        png_of(0, 10),
        png_of(10, 0),
        jpeg_of(65_535, 65_535),
        jpeg_of(0, 100),
        jpeg_of(65_500, 65_500, b"\xff\x01"),  # a marker without a segment does not hide the size
        jpeg_of(65_500, 65_500, b"\xff\xd0\xff\xd7"),
    ],
)
def test_decompression_bombs_are_refused_by_their_header(content):
    with pytest.raises(images.BadImageError, match=r"megapixels|truncated or corrupt"):
        images.decode(content, upright=True)


def test_a_large_claim_over_little_data_is_refused():
    for content in (png_of(9_000, 9_000), jpeg_of(9_000, 9_000)):
        decoded_or_refused(content)


def prepared(source, directory, *more):
    values = command.parse(
        ["prepare", "--name=folder", f"--source={source}", f"--dir={directory}", *more],
        prepare.define_flags,
    )
    return prepare.main(values)


HOSTILE = {
    "empty.jpg": b"",
    "text.jpg": b"hello\n" * 100,
    "cut.jpg": GOOD["jpeg"][:300],
    "cut.png": GOOD["png"][:100],
    "bomb.png": png_of(100_000, 100_000, bytes(10**6)),
    "bomb.jpg": jpeg_of(65_535, 65_535),
    "noise.png": PNG_START + bytes(range(256)),
    "noise.jpeg": b"\xff\xd8" + bytes(range(256)),
    "a gif.png": b"GIF89a" + bytes(100),
}


def folder_of(root, files):
    good = {"good.jpg": GOOD["jpeg"], "other.png": GOOD["png"]}
    return write_folder(root, {"train": {"a": {**good, **files}, "b": good}})


@pytest.mark.parametrize("name", HOSTILE)
def test_prepare_names_the_bad_image(tmp_path, name):
    source = folder_of(tmp_path / "source", {name: HOSTILE[name]})
    with pytest.raises(UserError) as refusal:
        prepared(source, tmp_path / "store", "--image_size=16")
    assert f"train/a/{name}" in str(refusal.value) and "\n" not in str(refusal.value)
    assert not store.is_complete(tmp_path / "store")


def test_prepare_counts_and_names_what_it_leaves_out(tmp_path, capsys):
    source = folder_of(tmp_path / "source", HOSTILE)
    assert prepared(source, tmp_path / "store", "--image_size=16", "--on_bad_image=skip") == 0
    assert f"{len(HOSTILE)} left out" in capsys.readouterr().out
    manifest = store.read_manifest(tmp_path / "store")
    named = {entry["name"] for entry in manifest["skipped"]["train"]}
    assert named == {f"train/a/{name}" for name in HOSTILE}
    assert manifest["counts"] == {"train": 4}


# --- the store -------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["raw", "jpeg"])
def good_store(request, tmp_path_factory):
    """The files of a store of twelve images, by name."""
    root = tmp_path_factory.mktemp(request.param)
    files = {f"{i}.jpg": jpeg(picture(20, 20, i)) for i in range(6)}
    source = write_folder(root / "source", {"train": {"a": files, "b": files}})
    prepared(source, root / "store", "--image_size=16", f"--encoding={request.param}")
    found = [x for x in (root / "store").rglob("*") if x.is_file()]
    return {str(x.relative_to(root / "store")): x.read_bytes() for x in found}


def written(directory, files):
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    return directory


def all_batches(directory):
    """Opens a store and reads all of it, from the disk and, if it is raw, on the device."""
    split = store.open_store(directory).splits["train"]
    for device_bytes in (0, 10**9):
        batches = list(pipeline.evaluation_batches(split, 5, device_bytes=device_bytes))
        assert sum(batch["mask"].sum() for batch in batches) == 12
    images_read = np.concatenate([np.asarray(batch["image"]) for batch in batches])[:12]
    return images_read, np.concatenate([batch["label"] for batch in batches])[:12]


def damaged(content, data):
    """A file with a few bytes changed, or cut, or longer, or empty, or random."""
    kind = data.draw(st.sampled_from(["change", "change", "cut", "append", "empty", "random"]))
    if kind == "cut":
        return content[: data.draw(st.integers(0, len(content) - 1))]
    if kind == "append":
        return content + data.draw(st.binary(min_size=1, max_size=20))
    if kind == "empty":
        return b""
    if kind == "random":
        return data.draw(st.binary(min_size=len(content), max_size=len(content)))
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    return bytes(changed)


@pytest.mark.slow
@settings(FUZZ, max_examples=60)
@given(data=st.data())
def test_a_damaged_store_is_refused_or_reads_the_same(good_store, tmp_path_factory, data):
    """Whatever is done to one of its files: a UserError, or pixels and labels as they were."""
    directory = written(tmp_path_factory.mktemp("store"), good_store)
    expected = all_batches(directory)
    name = data.draw(st.sampled_from(sorted(good_store)))
    (directory / name).write_bytes(damaged(good_store[name], data))
    try:
        found = all_batches(directory)
    except UserError as refusal:
        assert str(directory) in str(refusal)
        return
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_garbage_for_images_ends_no_process(good_store, tmp_path):
    """In a process of its own, which a fault in a library would end by a signal."""
    directory = written(tmp_path, good_store)
    (name,) = (name for name in good_store if "/images." in name)
    rng = np.random.default_rng(0)
    content = bytearray(good_store[name])
    for at in rng.integers(len(content), size=len(content) // 20):
        content[at] = rng.integers(256)
    (directory / name).write_bytes(content)
    program = (
        "import pathlib, sys\n"
        "from alexnet_jax import errors\n"
        "import test_fuzz\n"
        "try:\n"
        "    test_fuzz.all_batches(pathlib.Path(sys.argv[1]))\n"
        "except errors.UserError as refusal:\n"
        "    print(refusal)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, directory],
        cwd=TOP,
        env={**os.environ, "PYTHONPATH": ".:tests/helpers:tests/data"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert name in done.stdout


MANIFESTS = {
    "no object": "[]",
    "a number": "3",
    "empty": "",
    "deep": "[" * 100_000,
    "other version": '{"version": 1}',
    "nothing in it": '{"version": 2}',
    "not text": "\ud800",
}


@pytest.mark.parametrize("text", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_of_something_else(tmp_path, text):
    (tmp_path / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match=r"manifest\.json"):
        store.open_store(tmp_path)


def test_labels_out_of_range(good_store, tmp_path):
    """Also where every checksum agrees."""
    directory = written(tmp_path, good_store)
    path = directory / "train" / store.LABELS
    labels = np.load(path)
    for bad in (-1, 2, 10**9):
        labels[3] = bad
        np.save(path, labels)
        manifest = json.loads((directory / "manifest.json").read_text())
        manifest["files"]["train/labels.npy"] = store.of_file(path)
        manifest[store.SELF] = store.digest_of(manifest)
        (directory / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(UserError, match=rf"labels from .*{bad}|labels from {bad}"):
            store.open_store(directory)
