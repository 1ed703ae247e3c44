"""The digits with an average of the parameters, which is evaluated and saved as them.

Command:   python -m alexnet_jax.main --config=configs/modern/ema.py --workdir=runs/ema
Hardware:  as configs/base.py.
Expected:  docs/recipes.md.
Source:    Polyak and Juditsky, 1992, with exponential weights.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Returns the settings of base.py with an average over about the last hundred steps."""
    config = base.get_config()
    config.train.ema_decay = 0.99
    return config
