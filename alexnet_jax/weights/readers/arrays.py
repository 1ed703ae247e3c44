"""The step from bytes in a file to NumPy arrays, with every size checked first."""

import math
from typing import Any

import numpy as np

MOST_AXES = 8  # of an array; a kernel of a convolution has four
# The kinds of numbers that the readers know, and how NumPy reads their little-endian bytes. NumPy
# has no bfloat16: its 16 bits are read as an integer first.
KINDS = {
    "float16": "<f2", "float32": "<f4", "float64": "<f8", "bfloat16": "<u2",
    "int64": "<i8", "int32": "<i4", "int16": "<i2", "int8": "i1", "uint8": "u1", "bool": "?",
}  # fmt: skip


class Broken(Exception):
    """A fault in a file and the advice how to mend it; `read` adds the file's name."""

    def __init__(self, fault: str, mend: str = "download or save it again") -> None:
        super().__init__(f"{fault}; {mend}")


def quoted(name: object) -> str:
    """Returns a name from a file in printable form: on one line and at most 80 characters."""
    text = repr(name) if isinstance(name, str) else f"a {type(name).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}…"


def item_bytes(kind: str) -> int:
    """Returns the bytes of one number of a kind in KINDS."""
    return np.dtype(KINDS[kind]).itemsize


def numbers(raw: bytes | bytearray | memoryview, kind: str) -> np.ndarray:
    """Reads little-endian numbers of a kind in KINDS, as [N].

    Floats become float32, without a copy if they already are; integers keep their dtype.
    Raises Broken if the number of bytes is not a multiple of the item size.
    """
    if len(raw) % item_bytes(kind):
        raise Broken(f"{len(raw)} bytes are no whole number of {kind}s")
    stored = np.frombuffer(raw, KINDS[kind])
    if kind == "bfloat16":  # the upper half of a float32
        return (stored.astype(np.uint32) << 16).view(np.float32)
    if stored.dtype.kind != "f":
        return stored
    with np.errstate(all="ignore"):  # an overflow becomes infinity, which `convert` refuses
        return stored.astype(np.float32, copy=False)


def check_shape(shape: Any, name: str) -> tuple[int, ...]:
    """Returns a shape from a file as a tuple; raises Broken unless it is up to 8 integers ≥ 1."""
    if not isinstance(shape, list | tuple) or len(shape) > MOST_AXES:
        raise Broken(f"{quoted(name)} has no shape that an array can have")
    # `type is`, because True is an int to isinstance.
    if not all(type(side) is int and side > 0 for side in shape):
        raise Broken(f"{quoted(name)} has no shape that an array can have")
    return tuple(shape)


def shaped(flat: np.ndarray, shape: Any, name: str) -> np.ndarray:
    """Returns [N] in a shape from a file; raises Broken unless the shape has exactly N numbers."""
    sides = check_shape(shape, name)
    if math.prod(sides) != flat.size:
        raise Broken(f"{quoted(name)} states the shape {_short(sides)} for {flat.size} numbers")
    return flat.reshape(sides)


def _short(sides: tuple[int, ...]) -> str:
    # A hostile file can state a side of thousands of digits.
    return "×".join(str(side) if side < 10**12 else f"2^{side.bit_length()}" for side in sides)
