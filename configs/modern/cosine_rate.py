"""The digits with a rate that falls to 0 along half a cosine.

Command:   python -m alexnet_jax.main --config=configs/modern/cosine_rate.py --workdir=runs/cosine
Hardware:  as configs/base.py.
Expected:  docs/recipes.md.
Source:    Loshchilov and Hutter, arXiv 1608.03983, without restarts.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Returns the settings of base.py with another schedule."""
    config = base.get_config()
    config.optim.schedule = "cosine"
    return config
