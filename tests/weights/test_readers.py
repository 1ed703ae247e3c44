"""Weight files of every kind are read as they are, and hostile ones are refused and run nothing."""

import argparse
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections import Counter, OrderedDict, defaultdict
from pathlib import PurePosixPath

import numpy as np
import pytest
import weight_files
from commands import error_line
from commands import run as run_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weight_files import called, field, plain, state_dict, tensor, torch_zip, varint

from alexnet_jax.errors import UserError
from alexnet_jax.weights import readers

MOST_MEMORY = 12 * 2**20  # bytes that a hostile file of a few bytes may take
rng = np.random.default_rng(0)
ARRAYS = {
    "conv1/0": rng.normal(size=(4, 3, 5, 2)).astype(np.float32),
    "conv1/1": rng.normal(size=4).astype(np.float32),
    "fc8/0": rng.normal(size=(3, 7)).astype(np.float32),
    "fc8/1": rng.normal(size=3).astype(np.float32),
}
WRITERS = {
    "pth": weight_files.pth,
    "pth of old": weight_files.pth_legacy,
    "caffemodel": weight_files.caffemodel,
    "caffemodel of 2013": weight_files.caffemodel_of_2013,
    "npz": weight_files.npz,
    "compressed npz": lambda arrays: weight_files.npz(arrays, np.savez_compressed),
    "safetensors": weight_files.safetensors,
}


def read(content, path):
    path.write_bytes(content)
    return readers.read(path)


def refused(content, path):
    """The message; it names the file, is one line, and took little memory."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as mistake:
            readers.read(path)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY + 4 * len(content)
    finally:
        tracemalloc.stop()
    message = str(mistake.value)
    assert str(path) in message and len(message) < 600
    message.encode()  # it can be printed
    assert len(message.splitlines()) == 1
    return message


# --- good files ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_arrays_back_whatever_the_file_is_called(kind, tmp_path):
    found = read(WRITERS[kind](ARRAYS), tmp_path / "weights")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("kind", ["pth", "pth of old", "npz", "safetensors"])
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floats_become_float32(kind, dtype, tmp_path):
    arrays = {name: array.astype(dtype) for name, array in ARRAYS.items()}
    found = read(WRITERS[kind](arrays), tmp_path / "weights")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array.astype(np.float32))


def test_double_blobs_and_bfloat16(tmp_path):
    doubles = {"fc8/0": ARRAYS["fc8/0"].astype(np.float64)}
    found = read(weight_files.caffemodel(doubles), tmp_path / "weights")
    np.testing.assert_array_equal(found["fc8/0"], ARRAYS["fc8/0"])
    halves = {"x": np.array([0x3F80, 0xC000, 0x3EAB], np.uint16)}
    found = read(weight_files.safetensors(halves), tmp_path / "weights")
    np.testing.assert_array_equal(found["x"], np.float32([1, -2, 0.333984375]))


@pytest.mark.parametrize("writer", [weight_files.pth, weight_files.pth_legacy])
def test_strides_are_honoured(writer, tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    found = read(writer({"x": base.transpose(2, 0, 1)}), tmp_path / "weights")
    np.testing.assert_array_equal(found["x"], base.transpose(2, 0, 1))
    columns_first = {"x": np.asfortranarray(base)}
    found = read(weight_files.npz(columns_first), tmp_path / "weights")
    np.testing.assert_array_equal(found["x"], base)


def test_tensors_may_share_a_storage(tmp_path):
    numbers = np.arange(6, dtype=np.float32)
    items = [("a", tensor("0", 6, 1, (2, 2), (2, 1))), ("b", tensor("0", 6, 5, (1,), (1,)))]
    found = read(torch_zip(state_dict(items), {"0": numbers.tobytes()}), tmp_path / "weights")
    np.testing.assert_array_equal(found["a"], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(found["b"], [5])


@pytest.mark.parametrize("kind", ["pth", "pth of old", "npz", "safetensors"])
def test_integers_keep_their_dtype(kind, tmp_path):
    arrays = {"n_averaged": np.arange(3, dtype=np.int64), "w": ARRAYS["fc8/1"]}
    found = read(WRITERS[kind](arrays), tmp_path / "weights")
    assert found["n_averaged"].dtype == np.int64 and found["w"].dtype == np.float32
    np.testing.assert_array_equal(found["n_averaged"], arrays["n_averaged"])


WEIGHTS = OrderedDict(w=ARRAYS["fc8/0"], b=ARRAYS["fc8/1"])
OPTIMIZER = {
    "state": {0: {"step": 90, "momentum_buffer": np.ones((3, 7), np.float32)}},
    "param_groups": [{"lr": 0.01, "nesterov": False, "params": [0, 1]}],
}
SCRIPTS = {
    "PyTorch's ImageNet trainer": {
        "epoch": 90, "arch": "alexnet", "state_dict": WEIGHTS, "optimizer": OPTIMIZER,
        "best_acc1": np.array(56.5, np.float32), "scheduler": {"milestones": Counter({30: 1})},
    },
    "torchvision's references": {
        "model": WEIGHTS, "optimizer": OPTIMIZER, "epoch": 89, "scaler": None,
        "args": argparse.Namespace(lr=0.01, data_path=PurePosixPath("/data"), amp=False),
        "model_ema": OrderedDict(n_averaged=np.array(7), w=ARRAYS["fc8/0"] + 1),
    },
    "Lightning": {
        "pytorch-lightning_version": "2.4.0", "global_step": 7, "state_dict": WEIGHTS,
        "callbacks": {"ModelCheckpoint": {"best_model_score": np.array(0.5, np.float32)}},
        "hyper_parameters": {"rate": np.float64(0.01), "seen": defaultdict(list, {"a": [1]})},
    },
    "PyTorch's tutorial": {"epoch": 3, "model_state_dict": WEIGHTS, "loss": 0.4},
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_weights_in_a_training_scripts_checkpoint_are_read(name, tmp_path):
    found = read(weight_files.torch_save(SCRIPTS[name]), tmp_path / "weights")
    assert list(found) == ["w", "b"]
    for key, array in WEIGHTS.items():
        np.testing.assert_array_equal(found[key], array)


def test_a_placeholder_is_no_tensor(tmp_path):
    """An object of a library is read as a placeholder, which cannot become a weight."""
    for saved, named in (
        ({"state_dict": {"w": argparse.Namespace()}}, "argparse.Namespace"),
        (Counter(), "collections.Counter"),
    ):
        assert named in refused(weight_files.torch_save(saved), tmp_path / "weights")


def test_a_parameter_and_python_2s_ordered_dict(tmp_path):
    hooks = called("collections OrderedDict")
    one = called("torch._utils _rebuild_parameter", tensor("0", 3, 0, (3,), (1,)), b"\x88", hooks)
    pair = b"](" + plain("w") + one + b"e"
    pickled = b"\x80\x02" + called("collections OrderedDict", b"](" + pair + b"e") + b"."
    found = read(torch_zip(pickled, {"0": ARRAYS["fc8/1"].tobytes()}), tmp_path / "weights")
    np.testing.assert_array_equal(found["w"], ARRAYS["fc8/1"])


# --- hostile pickles -------------------------------------------------------------------------


def payloads(command):
    """Pickles, protocol 2 unless text, that run a shell command when Python loads them."""
    word, system = plain(command), b"cos\nsystem\n"
    text = command.encode()
    popen = b"csubprocess\nPopen\n"
    arguments = plain(["/bin/sh", "-c", command])
    space = b"ctypes\nSimpleNamespace\n)R"
    return {
        "REDUCE": b"\x80\x02" + system + word + b"\x85R.",
        "REDUCE eval": b"\x80\x02cbuiltins\neval\n"
        + plain(f"__import__('os').system({command!r})") + b"\x85R.",
        "REDUCE in a dict": b"\x80\x02}" + plain("w") + system + word + b"\x85Rs.",
        "BUILD": b"\x80\x02" + space + b"}" + plain("__setstate__") + system + b"sb" + word + b"b.",
        "INST": b"(S" + repr(command).encode() + b"\nios\nsystem\n.",
        "INST of protocol 2": b"\x80\x02(" + word + b"ios\nsystem\n.",
        "OBJ": b"\x80\x02(" + popen + arguments + b"o.",
        "NEWOBJ": b"\x80\x02" + b"csubprocess\nPopen\n" + arguments + b"\x85R.",
        "NEWOBJ_EX": b"\x80\x04" + b"cfunctools\npartial\n" + system + word + b"\x86}\x92)R.",
        "NEWOBJ of partial": b"\x80\x02cfunctools\npartial\n" + system + word + b"\x86\x81)R.",
        "STACK_GLOBAL": b"\x80\x04" + plain("os") + plain("system") + b"\x93" + word + b"\x85R.",
        "text": b"cos\nsystem\n(S'" + text + b"'\ntR.",
    }  # fmt: skip


NAMES = list(payloads(""))


def containers(payload):
    """The payload as every file that has a pickle in it, and in every place."""
    weights = {"w": np.ones(2, np.float32)}
    return {
        "zip": torch_zip(payload, {"0": weights["w"].tobytes()}),
        "plain": payload,
        "legacy": weight_files.pth_legacy(weights, payload),
        "legacy keys": weight_files.pth_legacy(weights, pickled_keys=payload),
    }


@pytest.mark.parametrize("name", NAMES)
def test_no_pickle_is_run(name, tmp_path):
    marker = tmp_path / "marker"
    payload = payloads(f"touch {marker}")[name]
    for kind, content in containers(payload).items():
        refused(content, tmp_path / "weights")
        assert not marker.exists(), kind


@pytest.mark.parametrize("name", NAMES)
def test_the_payloads_would_run(name, tmp_path):
    """Guards the test above."""
    marker = tmp_path / "marker"
    result = pickle.loads(payloads(f"touch {marker}")[name])
    if hasattr(result, "wait"):
        result.wait()
    assert marker.exists()


def test_the_global_is_named(tmp_path):
    message = refused(torch_zip(payloads("true")["REDUCE"], {}), tmp_path / "weights")
    assert "'os.system'" in message and "not run" in message and "state_dict()" in message
    known = b"\x80\x02ctorch\nFloatStorage\n)R."
    assert "torch.FloatStorage" in refused(torch_zip(known, {}), tmp_path / "weights")


NESTED = b"\x80\x02)" + b"q\x00h\x00\x86" * 100  # a tuple of two of a tuple of two of …
HOSTILE_PICKLES = {
    "a large memo": b"\x80\x02}r\xff\xff\xff\x0f.",
    "a key that takes for ever": NESTED + b"}h\x00K\x01s.",
    "a key that takes for ever, from the stack": b"\x80\x02}" + NESTED[2:] + b"K\x01s.",
    "a storage that takes for ever to print": NESTED + b"Q.",
    "a dict in itself": b"\x80\x02}q\x00(" + plain("state_dict") + b"h\x00u.",
    "a long string": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.",
    "a long byte array": b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f.",
    "a long number": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "a long text number": b"\x80\x02I" + b"9" * 100_000 + b"\n.",
    "an empty stack": b"\x80\x02R.",
    "no mark": b"\x80\x02t.",
    "no end": b"\x80\x02}",
    "nothing": b"",
    "no dict": b"\x80\x02K\x01.",
    "no tensor": b"\x80\x02}" + plain("w") + b"K\x01s.",
    "a name that cannot be printed": b"\x80\x02}X\x03\x00\x00\x00\xed\xa0\x80K\x01s.",
    "an extension": b"\x80\x02\x82\x01.",
    "a deep pickle": b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",
}


@pytest.mark.parametrize("name", HOSTILE_PICKLES)
def test_a_hostile_pickle_is_refused_at_once(name, tmp_path):
    pickled = HOSTILE_PICKLES[name]
    refused(torch_zip(pickled, {}), tmp_path / "weights")
    if pickled:
        refused(weight_files.pth_legacy({}, pickled), tmp_path / "weights")


PAIR = b"](" + plain("w") + b"Ne"
# Small pickles that would keep a reader busy for minutes, and the words they are refused with.
BUSY_PICKLES = {
    "pairs that are given to OrderedDict 12,000 times": (
        b"\x80\x02ccollections\nOrderedDict\nq\x00](" + PAIR * 12_000
        + b"eq\x01\x85q\x02](" + b"h\x00h\x02R" * 12_000 + b"e.",
        "the same pairs for several dicts",
    ),
    "a long tuple that is used as a storage 12,000 times": (
        b"\x80\x02(" + plain("storage") + b"ctorch\nFloatStorage\n" + plain("0") + plain("cpu")
        + b"K\x04" + b"K\x00" * 20_000 + b"tq\x00](" + b"h\x00Q" * 20_000 + b"e.",
        "no storage",
    ),
    "20,000 keys of one hash": (
        b"\x80\x02}("
        + b"".join(b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + b"N"
                   for i in range(20_000)) + b"u.",
        "neither words nor numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BUSY_PICKLES)
def test_the_work_for_a_pickle_is_bounded_by_its_length(name, tmp_path):
    pickled, named = BUSY_PICKLES[name]
    assert named in refused(torch_zip(pickled, {}), tmp_path / "weights")


BAD_TENSORS = {
    "beyond its end": (tensor("0", 4, 0, (5,), (1,)), "beyond"),
    "offset beyond": (tensor("0", 4, 4, (1,), (1,)), "beyond"),
    "strides beyond": (tensor("0", 4, 0, (2, 2), (3, 1)), "beyond"),
    "repeated": (tensor("0", 4, 0, (10**12,), (0,)), "beyond"),
    "negative offset": (tensor("0", 4, -1, (1,), (1,)), "strides"),
    "negative stride": (tensor("0", 4, 3, (2,), (-1,)), "strides"),
    "negative side": (tensor("0", 4, 0, (-2, -2), (1, 1)), "shape"),
    "no side": (tensor("0", 4, 0, (0, 10**30), (1, 1)), "shape"),
    "too many axes": (tensor("0", 4, 0, (1,) * 70, (1,) * 70), "shape"),
    "fewer strides": (tensor("0", 4, 0, (2, 2), (1,)), "strides"),
    "a storage of another size": (tensor("0", 5, 0, (4,), (1,)), "4 of its 5"),
    "a huge storage": (tensor("0", 10**15, 0, (4,), (1,)), "4 of its"),
    "bytes that are no numbers": (tensor("odd", 1, 0, (1,), (1,)), "no whole number"),
    "no storage": (tensor("gone", 4, 0, (4,), (1,)), "missing"),
    "out of the folder": (tensor("../version", 4, 0, (4,), (1,)), "missing"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_a_tensor_that_its_storage_does_not_hold_is_refused(name, tmp_path):
    opcodes, named = BAD_TENSORS[name]
    storages = {"0": np.zeros(4, np.float32).tobytes(), "odd": b"123"}
    content = torch_zip(state_dict([("weights", opcodes)]), storages)
    message = refused(content, tmp_path / "weights")
    assert named in message


def test_old_form_with_too_few_numbers(tmp_path):
    good = weight_files.pth_legacy(ARRAYS)
    assert "numbers of '1003'" in refused(good[:-1], tmp_path / "weights")
    true = good.index(b"\x88", good.index(b"little_endian"))
    big = good[:true] + b"\x89" + good[true + 1 :]
    assert "big-endian" in refused(big, tmp_path / "weights")


# --- hostile archives ------------------------------------------------------------------------


def zipped(method=zipfile.ZIP_DEFLATED, **members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def npy(header, numbers=b"\0" * 16):
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + numbers


def npy_header(shape="(4,)", descr="'<f4'"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


def lying(content, stated):
    """The archive, its one member stating another size."""
    at = content.rindex(b"PK\x01\x02") + 24
    content = content[:at] + struct.pack("<I", stated) + content[at + 4 :]
    return content[:22] + struct.pack("<I", stated) + content[26:]


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


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


# --- any file --------------------------------------------------------------------------------


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "gone", readers.Path("/dev/zero")):
        with pytest.raises(UserError, match="is not a file"):
            readers.read(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "weights"
    with path.open("wb") as file:
        file.truncate(readers.LARGEST + 1)  # takes no disk
    with pytest.raises(UserError, match="more than"):
        readers.read(path)


GOOD = {kind: writer(ARRAYS) for kind, writer in WRITERS.items()}
PICKLED = state_dict([("w", weight_files.tensor_of(ARRAYS["fc8/0"], "0"))])
HEADER = npy(npy_header("(2, 2)"))
STARTS = [
    b"",
    b"\x80\x02",
    b"\x80\x04",
    b"PK\x03\x04",
    b"\x0a\x07AlexNet",
    b"\x30" + b"\0" * 7 + b"{",
]
FUZZ = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def mutated(draw, originals):
    """A good file with bytes changed, cut out or doubled."""
    content = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        if draw(st.booleans()):
            content[at : at + 1] = draw(st.binary(min_size=0, max_size=9))
        else:
            end = draw(st.integers(at, len(content)))
            content[at:end] = content[at:end] * draw(st.sampled_from([0, 2]))
    return bytes(content)


def read_or_refused(content, path):
    try:
        arrays = read(content, path)
    except UserError as mistake:
        assert str(path) in str(mistake)
    else:
        assert all(x.dtype == np.float32 for x in arrays.values())


@FUZZ
@given(start=st.sampled_from(STARTS), content=st.binary(max_size=300))
def test_random_bytes_are_refused(start, content, tmp_path):
    read_or_refused(start + content, tmp_path / "weights")


@FUZZ
@given(content=mutated(list(GOOD.values())))
def test_changed_files_are_read_or_refused(content, tmp_path):
    read_or_refused(content, tmp_path / "weights")


@FUZZ
@given(pickled=mutated([PICKLED, *payloads("true").values()]))
def test_changed_pickles_are_read_or_refused(pickled, tmp_path):
    """Inside an archive whose checksums are right."""
    content = torch_zip(pickled, {"0": ARRAYS["fc8/0"].tobytes()})
    read_or_refused(content, tmp_path / "weights")


@FUZZ
@given(header=mutated([HEADER]))
def test_changed_array_headers_are_read_or_refused(header, tmp_path):
    read_or_refused(zipped(**{"x.npy": header}), tmp_path / "weights")


# --- through the shell -----------------------------------------------------------------------

HOSTILE = {
    "pth": lambda marker: torch_zip(payloads(f"touch {marker}")["REDUCE"], {}),
    "caffemodel": lambda _: CAFFEMODELS["a huge length"][0],
    "npz": lambda marker: weight_files.npz({"x": np.array([Evil(marker)], object)}),
    "safetensors": lambda _: SAFETENSORS["overlapping"],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_gets_an_error_line(kind, tmp_path):
    marker, file, workdir = tmp_path / "marker", tmp_path / f"hostile.{kind}", tmp_path / "run"
    file.write_bytes(HOSTILE[kind](marker))
    arguments = (f"--from={file}", "--layout=caffe", f"--workdir={workdir}")
    line = error_line(run_command("convert", *arguments, code=2))
    assert str(file) in line
    assert not marker.exists() and not workdir.exists()
