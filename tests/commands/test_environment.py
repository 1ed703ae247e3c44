"""XLA's flags: ours, unless the user has given them; memory that a command keeps."""

import importlib.metadata
import os
import platform
import subprocess
import sys

import pytest

from alexnet_jax.environment import set_cpu_flags

YNN, SCHEDULER = "--xla_cpu_experimental_ynn_fusion_type", "--xla_cpu_scheduler_type"
MEMORY = "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"


@pytest.mark.parametrize(
    ("given", "version", "wanted"),
    [
        ("", "0.10.2", [f"{YNN}=individual_dot", f"{SCHEDULER}={MEMORY}"]),
        ("--a=1", "0.11.0", ["--a=1", f"{YNN}=individual_dot", f"{SCHEDULER}={MEMORY}"]),
        (f"{YNN}=", "0.10.2", [f"{YNN}=", f"{SCHEDULER}={MEMORY}"]),
        ("--a=1", "0.10.1", ["--a=1"]),
    ],
)
def test_flags(
    given: str, version: str, wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    monkeypatch.setenv("XLA_FLAGS", given)
    set_cpu_flags()
    assert os.environ["XLA_FLAGS"].split() == wanted


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc's malloc")
@pytest.mark.parametrize("keep", [False, True])
def test_freed_memory_is_kept(keep: bool) -> None:
    """The system counts the pages that it has to clear for 64 MB, asked for again in a thread."""
    program = (
        "import resource, threading, numpy as np\n"
        "from alexnet_jax.environment import keep_freed_memory\n"
        f"{keep} and keep_freed_memory()\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def ask():\n"
        "    before = faults()\n"
        "    np.ones(2**26, np.uint8)\n"
        "    print(faults() - before)\n"
        "for _ in range(3):\n"
        "    thread = threading.Thread(target=ask)\n"
        "    thread.start()\n"
        "    thread.join()\n"
    )
    env = {**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"}  # pages of 4 kB are counted
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=env
    )
    *_, last = (int(x) for x in done.stdout.split())
    assert (last < 100) == keep
