"""Random and changed weight files are read or refused, and never a crash."""

import numpy as np
import weight_files
from hostile_weights import npy, npy_header, payloads, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import ARRAYS, WRITERS, read
from weight_files import state_dict, torch_zip

from alexnet_jax.errors import UserError

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
