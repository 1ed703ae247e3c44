"""The .safetensors format: 8 bytes with the header's length, the header in JSON, the numbers."""

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np

from alexnet_jax.weights.readers.arrays import (
    Broken,
    check_shape,
    floats,
    item_bytes,
    quoted,
    shaped,
)

LONGEST_HEADER = 2**20  # bytes
KINDS = {"F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16"}


def read(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of a file; raises Broken unless they fill it exactly, one after the other."""
    header, numbers = _parts(content)
    header.pop("__metadata__", None)
    spans = {name: _span(name, entry) for name, entry in header.items()}
    _check_spans(sorted(spans.values()), len(numbers))
    return {
        name: _tensor(name, header[name], numbers[start:end])
        for name, (start, end) in spans.items()
    }


def _parts(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """The header as a dict, and the bytes behind it."""
    length = int.from_bytes(content[:8], "little")
    if length > min(LONGEST_HEADER, len(content) - 8):
        raise Broken(f"it states a header of {length:,} bytes and has {len(content):,}")
    try:
        header = json.loads(content[8 : 8 + length], object_pairs_hook=_unique)
    except (ValueError, RecursionError) as fault:
        raise Broken("its header is no JSON") from fault
    if not isinstance(header, dict):
        raise Broken("its header is no JSON object")
    return header, memoryview(content)[8 + length :]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise Broken("its header has a name twice")
    return dict(pairs)


def _span(name: str, entry: Any) -> tuple[int, int]:
    """Where a tensor's bytes begin and end, as its entry says."""
    span = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(span, list) or len(span) != 2 or not all(type(x) is int for x in span):
        raise Broken(f"{quoted(name)} has no data_offsets")
    return span[0], span[1]


def _check_spans(spans: list[tuple[int, int]], length: int) -> None:
    """Raises Broken if the tensors overlap, leave gaps, or do not end where the file does."""
    begins = [0, *(end for _, end in spans)]
    ends = [*(start for start, _ in spans), length]
    if begins != ends or any(end < start for start, end in pairwise(begins)):
        raise Broken(f"its data_offsets do not divide its {length:,} bytes of numbers")


def _tensor(name: str, entry: dict[str, Any], raw: memoryview) -> np.ndarray:
    kind = entry.get("dtype")
    if not isinstance(kind, str) or kind not in KINDS:
        raise Broken(f"{quoted(name)} has the dtype {quoted(kind)}, not one of {', '.join(KINDS)}")
    shape = check_shape(entry.get("shape"), name)
    if math.prod(shape) * item_bytes(KINDS[kind]) != len(raw):
        raise Broken(f"{quoted(name)} has {len(raw):,} bytes, which are not what its shape takes")
    return shaped(floats(raw, KINDS[kind]), shape, name)
