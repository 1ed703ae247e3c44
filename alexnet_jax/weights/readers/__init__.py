"""Safe readers of other people's weight files: .pth, .caffemodel, .npz and .safetensors.

Nothing in a file is run, whatever it says, and no size that it states is believed: each is checked
against the bytes that are there before memory is taken. What a file is, its content says and not
its name. A file that is not sound in every part is refused.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from alexnet_jax.errors import UserError
from alexnet_jax.weights.readers import archives, caffe, safetensors, torch
from alexnet_jax.weights.readers.arrays import Broken

LARGEST = 4 * 2**30  # bytes; the largest net of the paper takes a quarter of a gigabyte
Reader = Callable[[bytes], dict[str, np.ndarray]]


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a weight file by their names in it, float32, shaped as they are there.

    Raises:
      UserError: the file is missing, too large, damaged, or holds anything but arrays of floats.
    """
    content = _content(path)
    kind, reader = _format(content)
    try:
        arrays = reader(content)
        if not arrays:
            raise Broken("it holds no arrays")
        return arrays
    except Broken as fault:
        raise UserError(f"{path} cannot be read as {kind}: {fault}") from fault


def _content(path: Path) -> bytes:
    """A file's bytes, all in memory: it may change on the disk meanwhile."""
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
    """What a file's first bytes and, for a zip archive, the names in it say that it is."""
    if content.startswith(b"PK\x03\x04"):
        if archives.holds(content, ".npy"):
            return "an .npz archive", archives.read_npz
        return "a .pth archive of PyTorch", torch.read_archive
    if content[:1] == b"\x80" and content[1:2] <= b"\x05":
        return "a .pth file of PyTorch's old form", torch.read_legacy
    if content[8:9] == b"{":
        return "a .safetensors file", safetensors.read
    return "a .caffemodel (nor is it a .pth, .npz or .safetensors)", caffe.read
