"""The digits with a rate that falls linearly to 0.

Command:   python -m alexnet_jax.main --config=configs/modern/linear_rate.py --workdir=runs/linear
Hardware:  as configs/base.py.
Expected:  docs/recipes.md.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Returns the settings of base.py with another schedule."""
    config = base.get_config()
    config.optim.schedule = "linear"
    return config
