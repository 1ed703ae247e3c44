"""Zip archives, and the arrays of an .npz, which is one."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from alexnet_jax.weights.readers.arrays import Broken, floats, quoted, shaped

EXPANDS = 20  # weights barely shrink in a zip archive; what grows more than this is a bomb
SLACK = 2**20  # bytes, for the zeros of small archives
HEADER = 1000  # characters of an .npy file's header; a plain array's has 118
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1
FAULTS = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, ValueError, OSError, EOFError)


@contextmanager
def opened(content: bytes) -> Iterator[zipfile.ZipFile]:
    """The archive; raises Broken if it is damaged, or states more than it can hold."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            stated = sum(info.file_size for info in archive.infolist())
            if stated > EXPANDS * len(content) + SLACK:
                raise Broken(f"it unpacks to {stated:,} bytes, too many for {len(content):,}")
            yield archive
    except FAULTS as fault:
        raise Broken(f"the archive is damaged ({fault})") from fault


def member(archive: zipfile.ZipFile, name: str, most: int | None = None) -> bytes:
    """One file of an archive, its checksum verified.

    Raises Broken if it is not there, not readable, or has more than `most` bytes.
    """
    if name not in archive.NameToInfo:
        raise Broken(f"{quoted(name)} is missing in it")
    info = archive.NameToInfo[name]
    if info.compress_type not in METHODS or info.flag_bits & ENCRYPTED:
        raise Broken(f"{quoted(name)} in it is encrypted or compressed in an unusual way")
    if most is not None and info.file_size > most:
        raise Broken(f"{quoted(name)} in it has {info.file_size:,} bytes, more than {most:,}")
    with archive.open(info) as file:
        # With a size: read() would unpack all there is before it looks at what was stated.
        content = file.read(info.file_size)
    if len(content) != info.file_size:
        raise Broken(f"{quoted(name)} in it is cut off")
    return content


def holds(content: bytes, ending: str) -> bool:
    """Whether a file in the archive has a name with this ending; False for a damaged one."""
    try:
        with opened(content) as archive:
            return any(name.endswith(ending) for name in archive.namelist())
    except Broken:
        return False


def read_npz(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz; raises Broken, for arrays of objects too."""
    with opened(content) as archive:
        names = archive.namelist()
        return {name.removesuffix(".npy"): _array(member(archive, name), name) for name in names}


def _array(content: bytes, name: str) -> np.ndarray:
    """One .npy file; only its header is parsed, as a literal."""
    file = io.BytesIO(content)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise Broken(f"{quoted(name)} in it has the version {version}")
    try:
        shape, columns_first, dtype = readers[version](file, max_header_size=HEADER)
    except Exception as fault:  # what numpy's parser raises for a made-up header is not stated
        raise Broken(f"{quoted(name)} in it has a damaged header") from fault
    if dtype.name not in ("float16", "float32", "float64") or dtype.byteorder == ">":
        raise Broken(f"{quoted(name)} in it has the type {dtype.name}, not a little-endian float")
    flat = floats(memoryview(content)[file.tell() :], dtype.name)
    if columns_first:
        return shaped(flat, shape[::-1], name).T
    return shaped(flat, shape, name)
