"""The .safetensors format, read by the `safetensors` library."""

import json

import numpy as np
from safetensors import SafetensorError, deserialize

from alexnet_jax.weights.readers.arrays import Broken, numbers, quoted, shaped

KINDS = {
    "F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def read(content: bytes) -> dict[str, np.ndarray]:
    """Reads the tensors of a file in the order of their names; raises Broken if it is damaged."""
    try:
        tensors = dict(deserialize(content))
    except SafetensorError as fault:
        words = str(fault).removeprefix("Error while deserializing: ")
        raise Broken(f"the file is damaged ({quoted(words)})") from fault
    return {name: _array(name, tensors[name]) for name in sorted(tensors)}


def metadata(content: bytes) -> dict[str, str]:
    """Reads the texts by name that a sound file holds beside its tensors."""
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]).get("__metadata__") or {}  # it may be null, too


def _array(name: str, tensor: dict) -> np.ndarray:
    kind = tensor["dtype"]
    if kind not in KINDS:
        raise Broken(f"{quoted(name)} has the dtype {kind}, not one of {', '.join(KINDS)}")
    return shaped(numbers(tensor["data"], KINDS[kind]), tensor["shape"], name)
