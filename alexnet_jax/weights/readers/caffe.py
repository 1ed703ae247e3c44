"""Caffe's .caffemodel: a NetParameter in protobuf's wire format (Caffe's `caffe.proto`).

Only the fields that hold weights are read. `layer` is the current form, `layers` that of 2013 and
2014, which the published nets of Caffe's model zoo use.
"""

from collections.abc import Iterator

import numpy as np

from alexnet_jax.weights.readers.arrays import Broken, numbers, quoted, shaped

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5  # wire types
LONGEST_VARINT = 10  # bytes: 64 bits, 7 in a byte
MOST_FIELDS = 2000  # in one message; bounds the work for a file of empty fields
MOST_BLOBS = 4  # in one layer
# The field of a layer in NetParameter: the fields of the layer's name and of its blobs.
LAYER_FORMS = {100: (1, 7), 2: (4, 6)}
LEGACY_AXES, DATA, SHAPE, DOUBLES = (1, 2, 3, 4), 5, 7, 8  # of BlobProto
DIM = 1  # of BlobShape

Value = int | memoryview
Message = list[tuple[int, Value]]


def read(content: bytes) -> dict[str, np.ndarray]:
    """Reads every layer's blobs as LAYER/0 (weights) and LAYER/1 (biases); raises Broken."""
    arrays = {}
    for number, layer in _message(memoryview(content)):
        if number in LAYER_FORMS and isinstance(layer, memoryview):
            for name, blob in _blobs(layer, *LAYER_FORMS[number]):
                if name in arrays:
                    raise Broken(f"{quoted(name)} is in it twice")
                arrays[name] = _array(blob, name)
    return arrays


def layer_names(content: bytes) -> list[str]:
    """Reads the names of all layers, also those without blobs, in the order of the file."""
    found = []
    for number, layer in _message(memoryview(content)):
        if number in LAYER_FORMS and isinstance(layer, memoryview):
            name_at, _ = LAYER_FORMS[number]
            names = [value for field, value in _message(layer) if field == name_at]
            found += [bytes(x).decode("utf-8", "replace") for x in names if not isinstance(x, int)]
    return found


def _varint(buffer: memoryview, at: int) -> tuple[int, int]:
    """Reads the number that begins at this offset; returns it and the offset after it."""
    value = 0
    # Seven bits a byte, the lowest first; the eighth says that another byte follows.
    for i, byte in enumerate(buffer[at : at + LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise Broken(f"a number is cut off {len(buffer) - at} bytes before the end")


def _message(buffer: memoryview) -> Message:
    """Reads the fields of a message in order: (field number, number or bytes)."""
    fields, at = [], 0
    while at < len(buffer):
        if len(fields) == MOST_FIELDS:
            raise Broken(f"a message in it has more than {MOST_FIELDS} fields")
        key, at = _varint(buffer, at)
        if key < 8:
            raise Broken("a field in it has the number 0")
        # A key is the field number, then three bits of the wire type.
        value, at = _value(buffer, at, key & 7)
        fields.append((key >> 3, value))
    return fields


def _value(buffer: memoryview, at: int, wire: int) -> tuple[Value, int]:
    """Reads a field's content; returns it and the offset after it."""
    if wire == VARINT:
        return _varint(buffer, at)
    if wire == BYTES:
        length, at = _varint(buffer, at)
    elif wire in (EIGHT_BYTES, FOUR_BYTES):
        length = 8 if wire == EIGHT_BYTES else 4
    else:
        raise Broken(f"a field in it has the wire type {wire}")
    if length > len(buffer) - at:
        raise Broken(f"a field in it states {length:,} bytes where {len(buffer) - at:,} are left")
    return buffer[at : at + length], at + length


def _blobs(layer: memoryview, name_at: int, blobs_at: int) -> Iterator[tuple[str, memoryview]]:
    """Yields a layer's blobs with their names."""
    fields = _message(layer)
    names = [value for number, value in fields if number == name_at]
    blobs = [value for number, value in fields if number == blobs_at]
    if not blobs:
        return
    if len(names) != 1 or not all(isinstance(x, memoryview) for x in names + blobs):
        raise Broken("a layer in it has weights and no name")
    if len(blobs) > MOST_BLOBS:
        raise Broken(f"a layer in it has {len(blobs)} blobs")
    name = bytes(names[0]).decode("utf-8", "replace")
    yield from ((f"{name}/{i}", blob) for i, blob in enumerate(blobs))


def _array(blob: memoryview, name: str) -> np.ndarray:
    """Reads a BlobProto as float32, in the shape that it states.

    The form of 2013 always has four axes; its leading axes of size 1 are dropped, as Caffe does.
    """
    fields = _message(blob)
    data = [(number, value) for number, value in fields if number in (DATA, DOUBLES)]
    if len(data) != 1 or not isinstance(data[0][1], memoryview):
        raise Broken(f"{quoted(name)} does not hold its numbers in one piece")
    number, raw = data[0]
    flat = numbers(raw, "float64" if number == DOUBLES else "float32")
    shapes = [value for number, value in fields if number == SHAPE]
    if shapes:
        return shaped(flat, _dims(shapes[-1], name), name)
    # Later fields win, as protobuf prescribes.
    legacy = dict(fields)
    shape = [legacy.get(axis, 1) for axis in LEGACY_AXES]
    while len(shape) > 1 and shape[0] == 1:
        shape.pop(0)
    return shaped(flat, shape, name)


def _dims(shape: Value, name: str) -> list[int]:
    """Reads the sides of a BlobShape, packed into one field or not."""
    if not isinstance(shape, memoryview):
        raise Broken(f"{quoted(name)} has no shape that an array can have")
    dims = []
    for number, value in _message(shape):
        if number == DIM:
            dims += [value] if isinstance(value, int) else _packed(value)
    return dims


def _packed(buffer: memoryview) -> list[int]:
    """Reads a packed list of numbers."""
    values, at = [], 0
    while at < len(buffer):
        if len(values) == MOST_FIELDS:
            raise Broken(f"a shape in it has more than {MOST_FIELDS} sides")
        value, at = _varint(buffer, at)
        values.append(value)
    return values
