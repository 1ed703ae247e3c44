"""From bytes to arrays of float32, with every size checked first."""

import math
from typing import Any

import numpy as np

MOST_AXES = 8
FLOATS = {"float16": "<f2", "float32": "<f4", "float64": "<f8", "bfloat16": "<u2"}


class Broken(Exception):
    """What is wrong with a file, for a person, and the mend: `read` adds the file's name."""

    def __init__(self, fault: str, mend: str = "download or save it again") -> None:
        super().__init__(f"{fault}; {mend}")


def quoted(name: object) -> str:
    """A name out of a file as it can be printed: on one line and not endless."""
    text = repr(name) if isinstance(name, str) else f"a {type(name).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}…"


def item_bytes(kind: str) -> int:
    """Bytes of one number of a kind in FLOATS."""
    return np.dtype(FLOATS[kind]).itemsize


def floats(raw: bytes | memoryview, kind: str) -> np.ndarray:
    """Little-endian numbers of a kind in FLOATS as float32 [N]; no copy if they are that already.

    Raises Broken if their bytes are no whole number of them.
    """
    if len(raw) % item_bytes(kind):
        raise Broken(f"{len(raw)} bytes are no whole number of {kind}s")
    stored = np.frombuffer(raw, FLOATS[kind])
    if kind == "bfloat16":  # the upper half of a float32
        return (stored.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(all="ignore"):  # too large becomes infinite, which `convert` refuses
        return stored.astype(np.float32, copy=False)


def check_shape(shape: Any, name: str) -> tuple[int, ...]:
    """A shape out of a file; raises Broken unless it is up to 8 whole numbers from 1 up."""
    if not isinstance(shape, list | tuple) or len(shape) > MOST_AXES:
        raise Broken(f"{quoted(name)} has no shape that an array can have")
    if not all(type(side) is int and side > 0 for side in shape):
        raise Broken(f"{quoted(name)} has no shape that an array can have")
    return tuple(shape)


def shaped(flat: np.ndarray, shape: Any, name: str) -> np.ndarray:
    """[N] in a shape out of a file; raises Broken unless it has exactly N numbers."""
    sides = check_shape(shape, name)
    if math.prod(sides) != flat.size:
        raise Broken(f"{quoted(name)} states the shape {_short(sides)} for {flat.size} numbers")
    return flat.reshape(sides)


def _short(sides: tuple[int, ...]) -> str:
    return "×".join(str(side) if side < 10**12 else f"2^{side.bit_length()}" for side in sides)
