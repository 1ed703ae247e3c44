"""Reads a weight file that a test wrote, and the message of one that is refused."""

import tracemalloc

import numpy as np
import pytest
import weight_files

from alexnet_jax.errors import UserError
from alexnet_jax.weights import readers

MOST_MEMORY = 12 * 2**20  # bytes that a hostile file of a few bytes may take
rng = np.random.default_rng(0)
ARRAYS = {
    "conv1/0": rng.normal(size=(4, 3, 5, 2)).astype(np.float32),
    "conv1/1": rng.normal(size=4).astype(np.float32),
    "fc8/0": rng.normal(size=(3, 7)).astype(np.float32),
    "fc8/1": rng.normal(size=3).astype(np.float32),
}
WRITERS = {
    "pth": weight_files.pth,
    "pth of old": weight_files.pth_legacy,
    "caffemodel": weight_files.caffemodel,
    "caffemodel of 2013": weight_files.caffemodel_of_2013,
    "npz": weight_files.npz,
    "compressed npz": lambda arrays: weight_files.npz(arrays, np.savez_compressed),
    "safetensors": weight_files.safetensors,
}


def read(content, path):
    path.write_bytes(content)
    return readers.read(path).arrays


def refused(content, path):
    """The message; it names the file, is one line, and took little memory."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as mistake:
            readers.read(path)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY + 4 * len(content)
    finally:
        tracemalloc.stop()
    message = str(mistake.value)
    assert str(path) in message and len(message) < 600
    message.encode()  # it can be printed
    assert len(message.splitlines()) == 1
    return message
