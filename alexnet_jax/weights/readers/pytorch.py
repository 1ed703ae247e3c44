"""PyTorch's .pth files: a zip archive (since version 1.6), or a sequence of pickles (before).

Both hold a pickle that describes the tensors, and storages of raw numbers.
"""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from alexnet_jax.weights.readers import archives, pickles
from alexnet_jax.weights.readers.arrays import Broken, check_shape, numbers, quoted
from alexnet_jax.weights.readers.pickles import Inert, Storage, Tensor

PICKLE = "data.pkl"
# Where training scripts keep the weights: PyTorch's ImageNet trainer and Lightning, torchvision's
# references, PyTorch's tutorial on saving. Another name is taken if it holds the only tensors.
WITHIN = ("state_dict", "model", "model_state_dict")
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001  # of the old form

Raw = Callable[[Storage], bytes | memoryview]  # reads the bytes of a storage from the file


def read_archive(content: bytes) -> dict[str, np.ndarray]:
    """Reads the tensors of ROOT/data.pkl, with their numbers in ROOT/data/KEY; raises Broken."""
    with archives.opened(content) as archive:
        names = archive.namelist()
        # PyTorch calls ROOT as it called the file, which may have been renamed since.
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
    """Reads the old form: magic, version, system, tensors, keys (all pickled), then the numbers.

    Raises Broken if it is damaged or big-endian.
    """
    # Cut, so that a hostile pickle is not longer than the interpreter's limit.
    stream = io.BytesIO(content[: pickles.LONGEST])
    if pickles.load(stream)[0] != MAGIC or pickles.load(stream)[0] != VERSION:
        raise Broken("it is a pickle, but no state_dict that torch.save wrote")
    system, _ = pickles.load(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Broken("its numbers are big-endian")
    tensors, storages = pickles.load(stream)
    keys, _ = pickles.load(stream)
    raw = _raw(keys, storages, memoryview(content)[stream.tell() :])
    return _arrays(tensors, lambda storage: raw.get(storage.key, b""))


def _raw(keys: Any, storages: dict[str, Storage], raw: memoryview) -> dict[str, memoryview]:
    """Splits the raw numbers by storage key; each block is a count (8 bytes), then the numbers."""
    if not isinstance(keys, list) or not all(isinstance(x, str) and x in storages for x in keys):
        raise Broken("its list of storages is not that of its tensors")
    parts, at = {}, 0
    for key in keys:
        begin, end = at + 8, at + 8 + storages[key].bytes
        if int.from_bytes(raw[at:begin], "little") != storages[key].count or end > len(raw):
            raise Broken(f"it does not hold the {storages[key].count:,} numbers of {quoted(key)}")
        parts[key], at = raw[begin:end], end
    return parts


def _selected(saved: Any) -> dict[str, Tensor]:
    """Returns the tensors by name: of the state_dict itself, or of one in a script's checkpoint."""
    if isinstance(saved, dict):
        named = [saved[key] for key in WITHIN if isinstance(saved.get(key), dict)]
        others = [x for x in saved.values() if _is_state_dict(x)]
        if named or len(others) == 1:
            saved = (named or others)[0]
    if not isinstance(saved, dict):
        raise Broken(f"it holds {_named(saved)} and no state_dict", mend=pickles.SAVE)
    for name, value in saved.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise Broken(f"{quoted(name)} in it is {_named(value)}, no tensor", mend=pickles.SAVE)
        if not isinstance(value.storage, Storage):
            raise Broken(f"{quoted(name)} in it has no numbers")
    return saved


def _is_state_dict(value: Any) -> bool:
    """True for a dict with nothing but tensors."""
    tensors = list(value.values()) if isinstance(value, dict) else []
    return bool(tensors) and all(isinstance(x, Tensor) for x in tensors)


def _named(value: Any) -> str:
    """Describes a value of a pickle by its class."""
    name = value.name.replace(" ", ".") if isinstance(value, Inert) else type(value).__name__
    return f"a {quoted(name)}"


def _arrays(saved: Any, raw_of: Raw) -> dict[str, np.ndarray]:
    """Returns every tensor as a view of its storage, which is read once."""
    flats: dict[Storage, np.ndarray] = {}
    arrays = {}
    for name, tensor in _selected(saved).items():
        storage = tensor.storage
        if storage not in flats:
            flats[storage] = _flat(storage, raw_of, name)
        arrays[name] = _view(flats[storage], tensor, name)
    return arrays


def _flat(storage: Storage, raw_of: Raw, name: str) -> np.ndarray:
    """Reads a storage's numbers; raises Broken unless there are as many as the pickle states."""
    flat = numbers(raw_of(storage), storage.kind)
    if flat.size != storage.count:
        raise Broken(f"{quoted(name)} in it has {flat.size:,} of its {storage.count:,} numbers")
    return flat


def _view(flat: np.ndarray, tensor: Tensor, name: str) -> np.ndarray:
    """Returns [N] as the tensor views it; raises Broken if it reaches beyond the N numbers.

    The tensor's strides count elements, those of NumPy bytes.
    """
    shape, strides = check_shape(tensor.shape, name), tensor.strides
    counts = (tensor.offset, *strides) if isinstance(strides, list | tuple) else ()
    if len(counts) != len(shape) + 1 or not all(type(x) is int and x >= 0 for x in counts):
        raise Broken(f"{quoted(name)} in it has strides that do not fit its shape")
    # The stride of an axis of length 1 is never used, and PyTorch leaves any number there.
    strides = [0 if side == 1 else stride for side, stride in zip(shape, strides, strict=True)]
    reach = sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    # The second bound is for strides of 0, which repeat numbers without reaching any further.
    if tensor.offset + reach >= flat.size or math.prod(shape) > flat.size:
        raise Broken(f"{quoted(name)} in it reaches beyond its storage")
    strides = [flat.itemsize * stride for stride in strides]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, strides, writeable=False)
