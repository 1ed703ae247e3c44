"""Errors that the user's machine causes, such as a full disk, each turned into one line.

Every command asks for the line when an exception reaches its end. There is none for an error of the
program itself, which keeps its traceback.
"""

import errno
import os
import re

from alexnet_jax.disk.full_disk import is_full
from alexnet_jax.errors import is_utf8

# Error codes of the system that concern a path, and the advice for each.
OF_A_PATH = {
    errno.EACCES: "give this user the right to it, or name another place",
    errno.EPERM: "give this user the right to it, or name another place",
    errno.EROFS: "name a place that can be written to",
    errno.ENOENT: "check the path; did another program remove it?",
    errno.ENOTDIR: "a part of the path is a file; name another place",
    errno.EISDIR: "a folder is in the place of a file; name another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its links lead in a circle; name another place",
    errno.EIO: "the disk or network drive fails; check it",
    errno.ESTALE: "the network drive was mounted anew; give the same command again",
    errno.ENODEV: "the drive is gone; check it",
    errno.ENXIO: "the drive is gone; check it",
    errno.ENOTCONN: "the network drive is gone; check it",
    errno.ETIMEDOUT: "the network drive does not answer; check it",
}
TOO_MANY = (errno.EMFILE, errno.ENFILE)  # open files, of this process and of the system


def explanation(error: BaseException) -> str | None:
    """Returns the line for an error that the user's machine causes; None for any other error."""
    if is_full(error):  # first: it is an OSError with a path, too
        return f"{error}; make room and give the same command again"
    if isinstance(error, OSError):
        line = of_system(error.errno, error.filename) or of_temporary_files(str(error.strerror))
    elif isinstance(error, UnicodeEncodeError):
        line = of_encoding(error)
    elif isinstance(error, ModuleNotFoundError):
        line = of_package((error.name or "alexnet_jax").partition(".")[0])
    elif isinstance(error, RuntimeError) and str(error).startswith("Unable to initialize backend"):
        line = f"{error}; check the device and JAX_PLATFORMS"
    elif isinstance(error, MemoryError) or str(error).startswith("RESOURCE_EXHAUSTED"):
        line = of_memory(str(error))
    else:
        line = of_tensorstore(str(error))
    # Libraries wrap the system's error into one of their own.
    return line or (explanation(error.__cause__) if error.__cause__ else None)


def of_memory(text: str) -> str:
    """Returns the line for exhausted memory of the host or, by XLA's text, of a device."""
    # XLA's first line says how much was asked for; a dump of the buffers follows.
    reason = text.removeprefix("RESOURCE_EXHAUSTED: ").split("\n")[0].rstrip(". ")
    return (
        f"memory is exhausted ({reason or 'of this machine'}); lower the size of the batch or of "
        "the images, or raise train.accumulate_steps"
    )


def of_system(code: int | None, path: object) -> str | None:
    """Returns the line for a code of errno and the path that it is about, if there is one."""
    if code in TOO_MANY:
        return f"{os.strerror(code)}; allow more: ulimit -n 65536"
    if code in OF_A_PATH and path is not None:
        return f"{shown(path)}: {os.strerror(code)}; {OF_A_PATH[code]}"
    return None


def of_temporary_files(text: str) -> str | None:
    """Returns the line for Python's error that no folder for temporary files can be written to."""
    if not text.startswith("No usable temporary directory"):
        return None
    return f"{text}; name a folder that can be written to: export TMPDIR=FOLDER"


def of_tensorstore(text: str) -> str | None:
    """Returns the line for an error of tensorstore, which writes checkpoints.

    Its errors have no code and no path but in their text.
    """
    code = re.search(r"os_error_code='(\d+)'", text)
    path = re.search(r'"(/[^"\\]*)', text)
    return of_system(int(code[1]), path and path[1]) if code else None


def of_package(name: str) -> str | None:
    """Returns the line for a package that cannot be imported; None if it is alexnet_jax itself."""
    if name == "alexnet_jax":
        return None
    return f"package {name} is not installed; run: pip install -r requirements.txt"


def of_encoding(error: UnicodeEncodeError) -> str:
    """Returns the line for a text with characters that an encoding lacks."""
    text = ascii(error.object[max(0, error.start - 60) : error.end + 60])
    if not is_utf8(error.object):
        return f"the name {text} is not UTF-8; rename the file or folder"
    return f"{text} cannot be written as {error.encoding}; run: export PYTHONUTF8=1"


def shown(path: object) -> str:
    """Returns a path as text that every terminal can show."""
    text = path.decode(errors="backslashreplace") if isinstance(path, bytes) else str(path)
    return text.encode(errors="backslashreplace").decode()
