"""AlexNet as it was, in JAX: the network, its recipe, its data, its evaluation.

model = alexnet_jax.build_model(config)
model, variables, config = alexnet_jax.load("runs/digits")
logits, endpoints = model.apply(variables, images)
"""

from typing import Any

from alexnet_jax import environment

# Before any other import: jax reads its flags and variables when it is loaded.
environment.set_up()

__all__ = ["build_model", "load"]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that a command reports a wrong flag before jax and flax are loaded.
    if name == "build_model":
        from alexnet_jax.nets.model import build_model

        return build_model
    if name == "load":
        from alexnet_jax.weights.loading import load

        return load
    raise AttributeError(f"module 'alexnet_jax' has no attribute {name!r}")
