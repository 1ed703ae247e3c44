"""Hostile archives, .safetensors and .caffemodel files are refused, and run nothing."""

import os
import struct
import zipfile

import numpy as np
import pytest
import weight_files
from commands import error_line
from commands import run as run_command
from hostile_weights import Evil, npy, npy_header, payloads, zipped
from reading import ARRAYS, refused
from weight_files import field, torch_zip, varint


def lying(content, stated):
    """The archive, its one member stating another size."""
    at = content.rindex(b"PK\x01\x02") + 24
    content = content[:at] + struct.pack("<I", stated) + content[at + 4 :]
    return content[:22] + struct.pack("<I", stated) + content[26:]


def test_an_array_of_objects_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "marker"
    content = weight_files.npz({"x": np.array([Evil(marker)], object)})
    assert "type object" in refused(content, tmp_path / "weights")
    assert not marker.exists()


ZEROS = np.zeros(2_000_000, np.float32)
BOMB = weight_files.npz({"x": ZEROS}, np.savez_compressed)
ARCHIVES = {
    "a bomb": (BOMB, "unpacks"),
    "a bomb that denies it": (lying(BOMB, 400), "damaged"),
    "a bomb in a .pth": (zipped(**{"a/data.pkl": b"\0" * 10**8}), "unpacks"),
    "a long pickle": (
        torch_zip(os.urandom(2**20 + 1), {}),
        "more than",
    ),
    "an unusual method": (zipped(zipfile.ZIP_LZMA, **{"x.npy": b"1"}), "unusual"),
    "an encrypted member": (
        weight_files.npz(ARRAYS).replace(b"\x2d\x03\x2d\0\0", b"\x2d\x03\x2d\0\1"),
        "unusual",
    ),
    "no array": (zipped(**{"x.npy": b"not one"}), "damaged"),
    "neither .npz nor .pth": (zipped(**{"x.txt": b"not one"}), "no data.pkl"),
    "two pickles": (zipped(**{"a/data.pkl": b"", "b/data.pkl": b""}), "no data.pkl"),
    "big-endian": (zipped(**{"a/data.pkl": b"", "a/byteorder": b"big"}), "big-endian"),
    "an empty archive": (zipped(**{"x.npy": b""})[:4], "damaged"),
    "cut off": (weight_files.npz(ARRAYS)[:-30], "damaged"),
    "a missing storage": (weight_files.pth(ARRAYS).replace(b"/data/1", b"/data/7"), "missing"),
    "a flipped bit": (weight_files.npz({"x": np.ones(9)}).replace(b"\xf0?", b"\xf1?"), "CRC"),
    "a huge shape": (zipped(**{"x.npy": npy(npy_header("(10000000000,)"))}), "10000000000"),
    "an overflowing shape": (zipped(**{"x.npy": npy(npy_header(f"({2**62}, 4)"))}), "2^63"),
    "a negative shape": (zipped(**{"x.npy": npy(npy_header("(-2, -2)"))}), "shape"),
    "an empty huge shape": (zipped(**{"x.npy": npy(npy_header("(0, 10**30)"), b"")}), "header"),
    "a shape of nothing": (zipped(**{"x.npy": npy(npy_header("(0,)"), b"")}), "shape"),
    "another type": (zipped(**{"x.npy": npy(npy_header(descr="'<c8'"))}), "complex64"),
    "big-endian numbers": (zipped(**{"x.npy": npy(npy_header(descr="'>f4'"))}), "little-endian"),
    "a record": (zipped(**{"x.npy": npy(npy_header(descr="[('a', '<f4')]"))}), "void"),
    "a header that is code": (zipped(**{"x.npy": npy("__import__('os').abort()")}), "header"),
    "a deep header": (zipped(**{"x.npy": npy("(" * 900)}), "header"),
    "a long header": (zipped(**{"x.npy": npy(" " * 5000 + npy_header())}), "header"),
    "a version of the future": (zipped(**{"x.npy": b"\x93NUMPY\x09\x00"}), "version"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_hostile_archive_is_refused(name, tmp_path):
    content, named = ARCHIVES[name]
    assert named in refused(content, tmp_path / "weights")


# --- hostile .safetensors --------------------------------------------------------------------

TWO = {"a": np.ones(2, np.float32), "b": np.ones((2, 2), np.float32)}


def entry(begin, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def headed(text, numbers=b""):
    return struct.pack("<Q", len(text)) + text + numbers


SAFETENSORS = {
    "overlapping": weight_files.safetensors(TWO, b=entry(4, 20, (2, 2))),
    "beyond the end": weight_files.safetensors(TWO, b=entry(8, 28, (5,))),
    "a gap": weight_files.safetensors(TWO, b=entry(12, 24, (3,))),
    "not to the end": weight_files.safetensors(TWO, b=entry(8, 20, (3,))),
    "backwards": weight_files.safetensors(TWO, a=entry(8, 0), b=entry(0, 24, (6,))),
    "negative": weight_files.safetensors(TWO, a=entry(-8, 8, (4,))),
    "huge offsets": weight_files.safetensors(TWO, b=entry(8, 10**300)),
    "a shape of another size": weight_files.safetensors(TWO, b=entry(8, 24, (5,))),
    "a huge shape": weight_files.safetensors(TWO, b=entry(8, 24, (10**300,))),
    "an overflowing shape": weight_files.safetensors(TWO, b=entry(8, 24, (2**63, 2, 4))),
    "a negative shape": weight_files.safetensors(TWO, b=entry(8, 24, (-2, -2))),
    "a shape of truths": weight_files.safetensors(TWO, b=entry(8, 24, (True, 4))),
    "a shape of nothing": weight_files.safetensors({"x": np.ones((0, 4), np.float32)}),
    "a dtype that is none": weight_files.safetensors(TWO, b=entry(8, 24, (4,), [])),
    "an unknown dtype": weight_files.safetensors(TWO, b=entry(8, 24, (16,), "F8_E4M3")),
    "no entry": weight_files.safetensors(TWO, b=1),
    "offsets of words": weight_files.safetensors(TWO, b=entry("8", "24")),
    "a huge header": struct.pack("<Q", 2**60) + b"{}" + b" " * 50,
    "a header of spaces": headed(b"{" + b" " * 2**20 + b"}"),
    "no JSON": headed(b"{nothing}"),
    "no text": headed(b"{\xff}"),
    "a deep header": headed(b'{"a":' * 100_000),
    "a long number": headed(b'{"a":' + b"9" * 5000 + b"}"),
    "a name twice": headed(b'{"a": 1, "a": 1}'),
    "nothing in it": headed(b"{}"),
    "a name that cannot be printed": headed(b'{"\\ud800\\n": 1}'),
    "a name of two lines": weight_files.safetensors({"a\nb": np.ones((0, 4), np.float32)}),
    "a long name": weight_files.safetensors({"x" * 10_000: np.ones((0, 4), np.float32)}),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_hostile_safetensors_is_refused(name, tmp_path):
    assert ".safetensors file" in refused(SAFETENSORS[name], tmp_path / "weights")


# --- hostile .caffemodel ---------------------------------------------------------------------

ONE = {"fc8/0": np.ones((2, 3), np.float32)}


def layer_with(blob):
    return field(100, field(1, b"fc8") + field(7, blob))


def numbers_in(*shape, count=6):
    dims = field(7, b"".join(field(1, side) for side in shape))
    return dims + field(5, b"\0" * 4 * count)


CAFFEMODELS = {
    "empty": (b"", "no arrays"),
    "words": (b"These are not weights.\n", "wire type"),
    "cut off": (weight_files.caffemodel(ONE)[:-1], "states"),
    "a truncated number": (b"\x0a\xff\xff", "cut off"),
    "an endless number": (b"\x0a" + b"\xff" * 30, "cut off"),
    "a huge length": (b"\xa2\x06" + b"\xff" * 9 + b"\x01", "states"),
    "a huge length inside": (field(100, b"\x3a" + varint(2**62)), "states"),
    "eight bytes cut off": (b"\x09\x00", "states"),
    "a group": (b"\x0b\x0c", "wire type 3"),
    "field 0": (b"\x00\x00", "number 0"),
    "many empty fields": (b"\x0a\x00" * 1_000_000, "more than"),
    "many blobs": (field(100, field(1, b"x") + field(7, b"") * 5), "5 blobs"),
    "a layer without a name": (field(100, field(7, numbers_in(6))), "no name"),
    "a blob that is a number": (field(100, field(1, b"x") + field(7, 1)), "no name"),
    "a blob without numbers": (layer_with(field(7, field(1, 6))), "one piece"),
    "numbers in many pieces": (layer_with(b"\x2d\0\0\0\0" * 6), "one piece"),
    "numbers that are none": (layer_with(field(5, 1)), "one piece"),
    "half a number": (layer_with(field(5, b"123")), "no whole number"),
    "another shape": (layer_with(numbers_in(2, 4)), "2×4"),
    "a huge shape": (layer_with(numbers_in(2**40, 2**40)), "2^41×2^41"),
    "a negative shape": (layer_with(numbers_in(2**64 - 1, 2**64 - 6)), "2^64"),
    "a shape of nothing": (layer_with(numbers_in(0, count=0)), "shape"),
    "a long shape": (layer_with(field(7, field(1, b"\x01" * 10_000)) + field(5, b"1234")), "sides"),
    "a shape that is a number": (layer_with(field(7, 1) + field(5, b"1234")), "shape"),
    "a side that is none": (layer_with(field(1, b"x") + field(5, b"1234")), "shape"),
    "two layers of one name": (weight_files.caffemodel(ONE) * 2, "twice"),
}


@pytest.mark.parametrize("name", CAFFEMODELS)
def test_a_hostile_caffemodel_is_refused(name, tmp_path):
    content, named = CAFFEMODELS[name]
    assert named in refused(content, tmp_path / "weights")


# --- through the shell -----------------------------------------------------------------------

HOSTILE = {
    "pth": lambda marker: torch_zip(payloads(f"touch {marker}")["REDUCE"], {}),
    "npz": lambda marker: weight_files.npz({"x": np.array([Evil(marker)], object)}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_gets_an_error_line(kind, tmp_path):
    marker, file, workdir = tmp_path / "marker", tmp_path / f"hostile.{kind}", tmp_path / "run"
    file.write_bytes(HOSTILE[kind](marker))
    arguments = (f"--from={file}", "--layout=caffe", f"--workdir={workdir}")
    line = error_line(run_command("convert", *arguments, code=2))
    assert str(file) in line
    assert not marker.exists() and not workdir.exists()
