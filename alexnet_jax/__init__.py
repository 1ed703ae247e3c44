"""AlexNet as it was, in JAX: the network, its recipe, its data, its evaluation.

model = alexnet_jax.build_model(config)
model, variables, config = alexnet_jax.load("runs/digits")
logits, endpoints = model.apply(variables, images)
"""

from typing import Any

from alexnet_jax.environment import set_compilation_cache, set_cpu_flags

set_cpu_flags()
set_compilation_cache()

__all__ = ["build_model", "load"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: a wrong flag should be told before jax and flax have loaded.
    if name == "build_model":
        from alexnet_jax.nets.model import build_model

        return build_model
    if name == "load":
        from alexnet_jax.runs.restore import load

        return load
    raise AttributeError(f"module 'alexnet_jax' has no attribute {name!r}")
