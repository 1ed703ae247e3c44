"""The one CPU-only setting: it has to be in the environment before jax is imported."""

import importlib.metadata
import os

FLAG = "--xla_cpu_experimental_ynn_fusion_type"
VALUE = "individual_dot"
KNOWN_SINCE = (0, 10, 2)  # an older jaxlib aborts on a flag that it does not know


def set_cpu_flags() -> None:
    """Keeps jaxlib's YNN library to plain dot products on a CPU, unless the user says otherwise.

    Its other fusions make this net 1.6 to 2 times slower and have a reported miscompute.
    """
    version = importlib.metadata.version("jaxlib").split(".")[:3]
    flags = os.environ.get("XLA_FLAGS", "")
    if FLAG not in flags and tuple(int(x) for x in version if x.isdigit()) >= KNOWN_SINCE:
        os.environ["XLA_FLAGS"] = f"{flags} {FLAG}={VALUE}".strip()
