"""Safe readers of weight files: .pth, .caffemodel, .npz and .safetensors.

Nothing in a file is executed, and no size that it states is trusted: each is checked against the
bytes present before memory is allocated. The format is detected from the content, not from the
file's name. A file with one damaged part is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.errors import UserError
from alexnet_jax.weights.readers import archives, caffe, npz, pytorch, safetensors
from alexnet_jax.weights.readers.arrays import Broken

LARGEST = 4 * 2**30  # bytes; the paper's net in float32 takes a quarter of a gigabyte
Reader = Callable[[bytes], dict[str, np.ndarray]]


@dataclass(frozen=True)
class WeightFile:
    """The content of a weight file.

    Attributes:
      arrays: by their names in the file, shaped as in the file. Floats become float32; integers,
        such as a counter of batches, keep their dtype.
      facts: statements of the file about its net. A .safetensors of `alexnet_jax.export` has `net`
        and `input`. A .caffemodel has `layers`, their names in the order in which they are
        computed. Other files state nothing.
    """

    arrays: dict[str, np.ndarray]
    facts: Mapping[str, Any]


def read(path: Path) -> WeightFile:
    """Reads a weight file.

    Raises:
      UserError: the file is missing, too large, damaged, or holds something else than arrays.
    """
    content = _content(path)
    kind, reader = _format(content)
    try:
        arrays = reader(content)
        if not arrays:
            raise Broken("it holds no arrays")
        return WeightFile(arrays, _facts(content, reader))
    except Broken as fault:
        raise UserError(f"{path} cannot be read as {kind}: {fault}") from fault


def _facts(content: bytes, reader: Reader) -> dict[str, Any]:
    """Reads the statements of a file, whose arrays have been read, about its net."""
    if reader is safetensors.read:
        return safetensors.metadata(content)
    return {"layers": caffe.layer_names(content)} if reader is caffe.read else {}


def _content(path: Path) -> bytes:
    """Reads the file into memory: on disk it may change while it is being parsed."""
    if not path.is_file():
        raise UserError(f"{path} is not a file; give a .pth, .caffemodel, .npz or .safetensors")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            content = file.read() if size <= LARGEST else b""
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give another file") from error
    if size > LARGEST:
        raise UserError(f"{path} has {size:,} bytes, more than {LARGEST:,}; give a file of weights")
    return content


def _format(content: bytes) -> tuple[str, Reader]:
    """Detects the format from the leading bytes and, in a zip archive, from the member names."""
    if content.startswith(b"PK\x03\x04"):  # the header of a zip member
        if archives.has_member_ending(content, ".npy"):
            return "an .npz archive", npz.read
        return "a .pth archive of PyTorch", pytorch.read_archive
    if content[:1] == b"\x80" and content[1:2] <= b"\x05":  # a pickle's opcode PROTO
        return "a .pth file of PyTorch's old form", pytorch.read_legacy
    if content[8:9] == b"{":  # JSON after the eight bytes of its length
        return "a .safetensors file", safetensors.read
    return "a .caffemodel (nor is it a .pth, .npz or .safetensors)", caffe.read
