"""The machine and the package versions, for the record of a run or a measurement."""

import json
import os
import platform
from pathlib import Path

import jax

from alexnet_jax.disk.durable import write_text
from alexnet_jax.environment import installed_versions
from alexnet_jax.parallel import Devices

ENVIRONMENT = "environment.json"  # in a workdir
PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "scikit-learn",
    "scikit-image",
    "tensorflow-cpu",  # one of the two is installed, see requirements.txt
    "tensorflow",
    "torch",
    "pillow",
)


def processor() -> str:
    """Returns the processor's name, or its architecture if the system does not name it."""
    listed = Path("/proc/cpuinfo")
    # macOS has no such file.
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Returns the versions of Python and of those of PACKAGES that are installed."""
    return {"python": platform.python_version(), **installed_versions(PACKAGES)}


def write_environment(workdir: Path, devices: Devices) -> None:
    """Writes environment.json: devices, machine and versions of the newest start of a run."""
    environment = {
        "devices": f"{devices.layout.devices} × {devices.kind}",
        "processes": jax.process_count(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        **versions(),
    }
    write_text(workdir / ENVIRONMENT, json.dumps(environment, indent=2, ensure_ascii=False) + "\n")
