"""What `python -m alexnet_jax.benchmark` measures, and how."""
