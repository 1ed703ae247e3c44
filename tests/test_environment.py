"""XLA's flags: ours, unless the user has given them."""

import importlib.metadata
import os

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
