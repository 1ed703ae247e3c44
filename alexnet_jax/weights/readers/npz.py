"""NumPy's .npz: a zip archive of .npy files."""

import io

import numpy as np

from alexnet_jax.weights.readers import archives
from alexnet_jax.weights.readers.arrays import KINDS, Broken, numbers, quoted, shaped

HEADER = 1000  # characters of an .npy file's header; a plain array's has 118
HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read(content: bytes) -> dict[str, np.ndarray]:
    """Reads the arrays of an .npz by name.

    Raises Broken if it is damaged or holds an array of Python objects, which only pickle can read.
    """
    with archives.opened(content) as archive:
        names = archive.namelist()
        return {
            name.removesuffix(".npy"): _array(archives.member(archive, name), name)
            for name in names
        }


def _array(content: bytes, name: str) -> np.ndarray:
    """Reads one .npy file; only its header is parsed, as a Python literal."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version not in HEADER_READERS:
        raise Broken(f"{quoted(name)} in it has the version {version}")
    try:
        # Limited, because NumPy parses the header by ast.literal_eval, which a long text can crash.
        shape, columns_first, dtype = HEADER_READERS[version](file, max_header_size=HEADER)
    except Exception as fault:  # NumPy does not document what its parser raises
        raise Broken(f"{quoted(name)} in it has a damaged header") from fault
    if dtype.name not in KINDS or dtype.byteorder == ">":
        raise Broken(f"{quoted(name)} in it has the type {dtype.name}, not little-endian numbers")
    flat = numbers(memoryview(content)[file.tell() :], dtype.name)
    if columns_first:
        # Fortran's order: the same numbers with the axes the other way round.
        return shaped(flat, shape[::-1], name).T
    return shaped(flat, shape, name)
