"""What has to be in the environment before jax is imported."""

import ctypes
import importlib.metadata
import os
import platform
from pathlib import Path

CPU_FLAGS = {
    # YNN for plain dot products only: its other fusions make this net 1.6 to 2 times slower and
    # have a reported miscompute.
    "--xla_cpu_experimental_ynn_fusion_type": "individual_dot",
    # The order of work that holds least: a quarter less for the full-size step, as fast.
    "--xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
}
KNOWN_SINCE = (0, 10, 2)  # an older jaxlib aborts on a flag that it does not know

# mallopt's parameters (glibc, malloc.h): nothing is given back, no mmap, one arena.
KEEP = {-1: -1, -4: 0, -8: 1}  # M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX


def set_cpu_flags() -> None:
    """Tells XLA how to work on a CPU, flag by flag, unless the user says otherwise."""
    version = importlib.metadata.version("jaxlib").split(".")[:3]
    given = os.environ.get("XLA_FLAGS", "")
    if tuple(int(x) for x in version if x.isdigit()) >= KNOWN_SINCE:
        ours = [f"{flag}={value}" for flag, value in CPU_FLAGS.items() if flag not in given]
        os.environ["XLA_FLAGS"] = " ".join([given, *ours]).strip()


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
