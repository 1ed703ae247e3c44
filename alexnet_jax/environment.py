"""What has to be in the environment before jax is imported."""

import ctypes
import importlib.metadata
import os
import platform
from pathlib import Path

CPU_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
CPU_VALUE = "individual_dot"
KNOWN_SINCE = (0, 10, 2)  # an older jaxlib aborts on a flag that it does not know

# mallopt's parameters (glibc, malloc.h): nothing is given back, no mmap, one arena.
KEEP = {-1: -1, -4: 0, -8: 1}  # M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX


def set_cpu_flags() -> None:
    """Keeps jaxlib's YNN library to plain dot products on a CPU, unless the user says otherwise.

    Its other fusions make this net 1.6 to 2 times slower and have a reported miscompute.
    """
    version = importlib.metadata.version("jaxlib").split(".")[:3]
    flags = os.environ.get("XLA_FLAGS", "")
    if CPU_FLAG not in flags and tuple(int(x) for x in version if x.isdigit()) >= KNOWN_SINCE:
        os.environ["XLA_FLAGS"] = f"{flags} {CPU_FLAG}={CPU_VALUE}".strip()


def set_compilation_cache() -> None:
    """Keeps what was compiled in the user's cache folder, unless the user names another."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "alexnet_jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def keep_freed_memory() -> None:
    """Makes glibc keep what this process frees, for the next step; it has to be set early.

    XLA asks for a step's memory anew at every step. On a CPU half a million pages have then to be
    cleared for each full-size step, a tenth of its time. For our commands only: a library does
    not change its user's process.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in KEEP.items():
            libc.mallopt(parameter, value)
