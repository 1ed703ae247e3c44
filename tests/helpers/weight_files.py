"""Small writers of other people's weight files, each from the formats' own descriptions."""

import collections
import io
import json
import pickle
import pickletools
import struct
import sys
import types
import zipfile
from unittest import mock

import numpy as np

GLOBAL, MARK, TUPLE, REDUCE, PERSISTENT, STOP = b"c", b"(", b"t", b"R", b"Q", b"."
FALSE = b"\x89"
STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage"}


# --- PyTorch ---------------------------------------------------------------------------------


def plain(value):
    """A plain value's opcodes, without the memo."""
    return pickletools.optimize(pickle.dumps(value, 2))[2:-1]


def called(function, *arguments):
    """`function` ("module name") called with arguments that are opcodes already."""
    module, name = function.split()
    return GLOBAL + f"{module}\n{name}\n".encode() + MARK + b"".join(arguments) + TUPLE + REDUCE


def storage(key, count, kind="FloatStorage"):
    words = GLOBAL + f"torch\n{kind}\n".encode() + plain(key) + plain("cpu") + plain(count)
    return MARK + plain("storage") + words


def tensor(key, count, offset, shape, strides, kind="FloatStorage", more=b""):
    place = storage(key, count, kind) + more + TUPLE + PERSISTENT
    layout = plain(offset) + plain(tuple(shape)) + plain(tuple(strides))
    hooks = called("collections OrderedDict")
    return called("torch._utils _rebuild_tensor_v2", place, layout, FALSE, hooks)


def tensor_of(array, key, more=b""):
    strides = [x // array.itemsize for x in array.strides]
    base = array if array.base is None else array.base
    kind = STORAGES[array.dtype.str[1:]]
    return tensor(key, base.size, 0, array.shape, strides, kind, more)


def state_dict(items):
    """A pickled OrderedDict of (name, opcodes)."""
    pairs = b"".join(plain(name) + opcodes for name, opcodes in items)
    return b"\x80\x02" + called("collections OrderedDict") + MARK + pairs + b"u" + STOP


def storage_bytes(array):
    return (array if array.base is None else array.base).tobytes()


def torch_zip(pickled, storages, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for key, raw in storages.items():
            archive.writestr(f"archive/data/{key}", raw)
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def pth(arrays):
    """What torch.save writes since 1.6."""
    items = [(name, tensor_of(array, str(i))) for i, (name, array) in enumerate(arrays.items())]
    storages = {str(i): storage_bytes(array) for i, array in enumerate(arrays.values())}
    return torch_zip(state_dict(items), storages)


def pth_legacy(arrays, pickled=None, pickled_keys=None):
    """What torch.save wrote before; its pickles of tensors and keys can be replaced."""
    keys = [str(1000 + i) for i in range(len(arrays))]
    named = zip(arrays.items(), keys, strict=True)
    items = [(name, tensor_of(array, key, plain(None))) for (name, array), key in named]
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    head = [pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, machine)]
    pickles = [pickled or state_dict(items), pickled_keys or pickle.dumps(keys, 2)]
    numbers = [struct.pack("<q", array.size) + storage_bytes(array) for array in arrays.values()]
    return b"".join([*head, *pickles, *numbers])


class _TorchPickler(pickle.Pickler):
    """Pickles NumPy arrays as torch.save does tensors: storages by reference, then views."""

    def __init__(self, file, storages):
        super().__init__(file, protocol=2)
        self.storages = storages

    def reducer_override(self, value):
        if not isinstance(value, np.ndarray):
            return NotImplemented
        strides = tuple(x // value.itemsize for x in value.strides)
        place = _Place(STORAGES[value.dtype.str[1:]], str(len(self.storages)), value.size)
        self.storages[place.key] = value.tobytes()
        hooks = collections.OrderedDict()
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (
            place, 0, value.shape, strides, False, hooks,
        )  # fmt: skip

    def persistent_id(self, value):
        if not isinstance(value, _Place):
            return None
        kind = getattr(sys.modules["torch"], value.kind)
        return ("storage", kind, value.key, "cuda:0", value.count)


_Place = collections.namedtuple("_Place", "kind key count")


def torch_save(value):
    """What torch.save writes for any Python value with NumPy arrays in place of tensors.

    Python's own pickler writes it; modules that are named like PyTorch's stand in for them.
    """
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in STORAGES.values():
        setattr(torch, kind, type(kind, (), {"__module__": "torch"}))
    utils._rebuild_tensor_v2 = lambda *_: None
    utils._rebuild_tensor_v2.__module__ = "torch._utils"
    utils._rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    file, storages = io.BytesIO(), {}
    with mock.patch.dict(sys.modules, {"torch": torch, "torch._utils": utils}):
        _TorchPickler(file, storages).dump(value)
    return torch_zip(file.getvalue(), storages)


# --- Caffe -----------------------------------------------------------------------------------


def varint(value):
    encoded = bytearray()
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(array):
    shape = field(7, field(1, b"".join(varint(side) for side in array.shape)))
    data = array.astype("<f4") if array.itemsize < 8 else array
    return shape + field(8 if array.itemsize == 8 else 5, data.tobytes())


def blob_of_2013(array):
    sides = (1,) * (4 - array.ndim) + array.shape
    legacy = b"".join(field(number, side) for number, side in enumerate(sides, 1))
    return legacy + field(5, array.astype("<f4").tobytes())


def _layers(arrays):
    """The arrays by layer: NAME/0, NAME/1 → NAME: [first, second]."""
    layers = {}
    for key, array in arrays.items():
        layers.setdefault(key.rpartition("/")[0], []).append(array)
    return layers


def caffemodel(arrays, order=()):
    """`order` names all layers, also those without weights; empty = those with weights."""
    net = field(1, b"AlexNet") + field(100, field(1, b"data") + field(2, b"Data"))
    layers = _layers(arrays)
    for name in order or layers:
        layer = field(1, name.encode()) + field(2, b"Convolution")
        net += field(100, layer + b"".join(field(7, blob(x)) for x in layers.get(name, ())))
    return net


def caffemodel_of_2013(arrays, order=()):
    net, layers = field(1, b"AlexNet"), _layers(arrays)
    for name in order or layers:
        layer = field(2, b"bottom") + field(4, name.encode()) + field(5, 4)
        net += field(2, layer + b"".join(field(6, blob_of_2013(x)) for x in layers.get(name, ())))
    return net


# --- the others ------------------------------------------------------------------------------


def npz(arrays, save=np.savez):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def safetensors(arrays, **changes):
    """`changes` replaces entries of the header, or adds some."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    kinds = {"f4": "F32", "f8": "F64", "f2": "F16", "u2": "BF16", "i8": "I64"}
    for name, array in arrays.items():
        span = [at, at + array.nbytes]
        kind = kinds[array.dtype.str[1:]]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": span}
        at += array.nbytes
    text = json.dumps(header | changes).encode()
    numbers = b"".join(array.tobytes() for array in arrays.values())
    return struct.pack("<Q", len(text)) + text + numbers
