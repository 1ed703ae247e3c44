"""Zip archives, the container of .npz files and of PyTorch's .pth files."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from alexnet_jax.weights.readers.arrays import Broken, quoted

EXPANDS = 20  # weights barely shrink in a zip archive; a larger ratio is a decompression bomb
SLACK = 2**20  # bytes, for small archives that hold many zeros
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1  # bit of a member's flags, by the specification of zip
# zipfile documents BadZipFile only, but reading a damaged archive raises the others too.
FAULTS = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, ValueError, OSError, EOFError)


@contextmanager
def opened(content: bytes) -> Iterator[zipfile.ZipFile]:
    """Opens an archive; raises Broken if it is damaged or states more than it can hold."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            stated = sum(info.file_size for info in archive.infolist())
            if stated > EXPANDS * len(content) + SLACK:
                raise Broken(f"it unpacks to {stated:,} bytes, too many for {len(content):,}")
            yield archive
    except FAULTS as fault:
        raise Broken(f"the archive is damaged ({fault})") from fault


def member(archive: zipfile.ZipFile, name: str, most: int | None = None) -> bytes:
    """Reads one member of an archive and verifies its checksum.

    Raises Broken if it is missing, unreadable, or longer than `most` bytes.
    """
    if name not in archive.NameToInfo:
        raise Broken(f"{quoted(name)} is missing in it")
    info = archive.NameToInfo[name]
    if info.compress_type not in METHODS or info.flag_bits & ENCRYPTED:
        raise Broken(f"{quoted(name)} in it is encrypted or compressed in an unusual way")
    if most is not None and info.file_size > most:
        raise Broken(f"{quoted(name)} in it has {info.file_size:,} bytes, more than {most:,}")
    with archive.open(info) as file:
        # Without a size, read() would unpack everything before it compares with the stated size.
        content = file.read(info.file_size)
    if len(content) != info.file_size:
        raise Broken(f"{quoted(name)} in it is cut off")
    return content


def has_member_ending(content: bytes, ending: str) -> bool:
    """True if a member's name has this ending; False for a damaged archive."""
    try:
        with opened(content) as archive:
            return any(name.endswith(ending) for name in archive.namelist())
    except Broken:
        return False
