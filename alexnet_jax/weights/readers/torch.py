"""PyTorch's .pth files: a zip archive (since version 1.6), or one pickle after the other (before).

Both hold a pickle that says which tensors there are, and storages of raw numbers.
"""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from alexnet_jax.weights.readers import archives, pickles
from alexnet_jax.weights.readers.arrays import FLOATS, Broken, check_shape, floats, quoted
from alexnet_jax.weights.readers.pickles import Storage, Tensor

PICKLE = "data.pkl"
WITHIN = ("state_dict", "model")  # where training scripts put the weights
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001  # of the old form

Raw = Callable[[Storage], bytes | memoryview]


def read_archive(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of ROOT/data.pkl, their numbers in ROOT/data/KEY; raises Broken."""
    with archives.opened(content) as archive:
        names = archive.namelist()
        roots = [x.removesuffix(PICKLE) for x in names if x.split("/")[1:] == [PICKLE]]
        if len(roots) != 1:
            raise Broken(f"it holds no {PICKLE}")
        order = roots[0] + "byteorder"
        if order in names and archives.member(archive, order, 9) == b"big":
            raise Broken("its numbers are big-endian")
        stream = io.BytesIO(archives.member(archive, roots[0] + PICKLE, pickles.LONGEST))
        tensors, _ = pickles.load(stream)
        return _arrays(tensors, lambda x: archives.member(archive, f"{roots[0]}data/{x.key}"))


def read_legacy(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of the old form: magic, version, machine, tensors, keys, then the numbers.

    Raises Broken.
    """
    stream = io.BytesIO(content[: pickles.LONGEST])
    if pickles.load(stream)[0] != MAGIC or pickles.load(stream)[0] != VERSION:
        raise Broken("it is a pickle, but no state_dict that torch.save wrote")
    machine, _ = pickles.load(stream)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise Broken("its numbers are big-endian")
    tensors, storages = pickles.load(stream)
    keys, _ = pickles.load(stream)
    raw = _raw(keys, storages, memoryview(content)[stream.tell() :])
    return _arrays(tensors, lambda storage: raw.get(storage.key, b""))


def _raw(keys: Any, storages: dict[str, Storage], numbers: memoryview) -> dict[str, memoryview]:
    """Each key's bytes: how many numbers there are (8 bytes), then these, key after key."""
    if not isinstance(keys, list) or not all(isinstance(x, str) and x in storages for x in keys):
        raise Broken("its list of storages is not that of its tensors")
    raw, at = {}, 0
    for key in keys:
        begin, end = at + 8, at + 8 + storages[key].bytes
        if int.from_bytes(numbers[at:begin], "little") != storages[key].count or end > len(numbers):
            raise Broken(f"it does not hold the {storages[key].count:,} numbers of {quoted(key)}")
        raw[key], at = numbers[begin:end], end
    return raw


def _selected(tensors: Any) -> dict[str, Tensor]:
    """The tensors by name: of the state_dict itself, or of one in a training script's dict."""
    if isinstance(tensors, dict):
        inner = [tensors[key] for key in WITHIN if isinstance(tensors.get(key), dict)]
        tensors = inner[0] if inner else tensors
    if not isinstance(tensors, dict):
        raise Broken("it holds no state_dict", mend=pickles.SAVE)
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise Broken(f"{quoted(name)} in it is no tensor", mend=pickles.SAVE)
        if not isinstance(value.storage, Storage):
            raise Broken(f"{quoted(name)} in it has no numbers")
    return tensors


def _arrays(tensors: Any, raw_of: Raw) -> dict[str, np.ndarray]:
    """Every tensor as a view of its storage, which is read once."""
    flats: dict[Storage, np.ndarray] = {}
    arrays = {}
    for name, tensor in _selected(tensors).items():
        storage = tensor.storage
        if storage not in flats:
            flats[storage] = _flat(storage, raw_of, name)
        arrays[name] = _view(flats[storage], tensor, name)
    return arrays


def _flat(storage: Storage, raw_of: Raw, name: str) -> np.ndarray:
    """A storage's numbers, float32; raises Broken unless there are as many as the pickle says."""
    if storage.kind not in FLOATS:
        raise Broken(f"{quoted(name)} in it holds whole numbers, not floats")
    flat = floats(raw_of(storage), storage.kind)
    if flat.size != storage.count:
        raise Broken(f"{quoted(name)} in it has {flat.size:,} of its {storage.count:,} numbers")
    return flat


def _view(flat: np.ndarray, tensor: Tensor, name: str) -> np.ndarray:
    """[N] as the tensor lies in it; raises Broken if it reaches beyond, or has more than N numbers.

    Its strides count elements, those of an array bytes.
    """
    shape, strides = check_shape(tensor.shape, name), tensor.strides
    counts = (tensor.offset, *strides) if isinstance(strides, list | tuple) else ()
    if len(counts) != len(shape) + 1 or not all(type(x) is int and x >= 0 for x in counts):
        raise Broken(f"{quoted(name)} in it has strides that do not fit its shape")
    strides = [0 if side == 1 else stride for side, stride in zip(shape, strides, strict=True)]
    reach = sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if tensor.offset + reach >= flat.size or math.prod(shape) > flat.size:
        raise Broken(f"{quoted(name)} in it reaches beyond its storage")
    return np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], shape, [4 * stride for stride in strides], writeable=False
    )
