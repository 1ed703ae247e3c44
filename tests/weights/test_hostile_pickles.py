"""Pickles that would run code or keep the reader busy are refused, and run nothing."""

import pickle

import numpy as np
import pytest
import weight_files
from hostile_weights import payloads
from reading import ARRAYS, refused
from weight_files import plain, state_dict, tensor, torch_zip

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
