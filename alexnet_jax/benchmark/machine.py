"""The machine and the package versions, for the record of a measurement."""

import importlib.metadata
import platform
from pathlib import Path

PACKAGES = (
    "jax",
    "jaxlib",
    "numpy",
    "scipy",
    "scikit-learn",
    "scikit-image",
    "tensorflow-cpu",
    "tensorflow",
    "torch",
    "pillow",
)


def processor() -> str:
    """Returns the processor's name, or its architecture if the system does not name it."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Returns the versions of Python and of those of PACKAGES that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
