"""The digits with batch normalisation in each convolution instead of LRN.

Command:   python -m alexnet_jax.main --config=configs/modern/batch_norm.py --workdir=runs/bn
Hardware:  as configs/base.py.
Expected:  docs/recipes.md.
Source:    Ioffe and Szegedy, arXiv 1502.03167.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Returns the settings of base.py with another net."""
    config = base.get_config()
    config.model.name = "alexnet_batch_norm"
    return config
