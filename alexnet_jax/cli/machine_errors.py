"""Errors that the user's machine causes, each as one line: the last resort of every command.

An error of the program itself is none of these: it keeps its traceback.
"""

import errno

from alexnet_jax.full_disk import is_full

# What the system reports about a path, and what to do about it.
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
TOO_MANY = (errno.EMFILE, errno.ENFILE)


def explanation(error: BaseException) -> str | None:
    """Returns the line for an error that the user's machine causes; None for any other error."""
    if is_full(error):
        return f"{error}; make room and give the same command again"
    if isinstance(error, OSError) and error.errno in TOO_MANY:
        return f"{error}; allow more: ulimit -n 65536"
    if isinstance(error, OSError) and error.errno in OF_A_PATH and error.filename is not None:
        return f"{shown(error.filename)}: {error.strerror}; {OF_A_PATH[error.errno]}"
    if isinstance(error, UnicodeEncodeError):
        return (
            f"the name {ascii(error.object)[:200]} has characters that cannot be written as "
            f"{error.encoding}; rename it, or run: export PYTHONUTF8=1"
        )
    if isinstance(error, ModuleNotFoundError) and error.name and not is_ours(error.name):
        package = error.name.partition(".")[0]
        return f"package {package} is not installed; run: pip install -r requirements.txt"
    if isinstance(error, RuntimeError) and str(error).startswith("Unable to initialize backend"):
        return f"{error}; check the device and JAX_PLATFORMS"
    return explanation(error.__cause__) if error.__cause__ else None


def shown(path: object) -> str:
    """Returns a path as text that every terminal can show."""
    text = path.decode(errors="backslashreplace") if isinstance(path, bytes) else str(path)
    return text.encode(errors="backslashreplace").decode()


def is_ours(module: str) -> bool:
    """True if the module belongs to this package."""
    return module.partition(".")[0] == "alexnet_jax"
