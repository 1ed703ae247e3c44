"""What a measurement has to say of the machine that it was made on."""

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
    """The processor's name, as far as the system tells."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of Python and of the packages that are installed among those that matter here."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
