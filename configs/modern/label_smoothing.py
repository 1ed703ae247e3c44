"""The digits with smoothed labels.

Command:   python -m alexnet_jax.main --config=configs/modern/label_smoothing.py --workdir=runs/soft
Hardware:  as configs/base.py.
Expected:  docs/recipes.md.
Source:    Szegedy et al., arXiv 1512.00567, section 7.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Returns the settings of base.py with a tenth of each target given to all classes."""
    config = base.get_config()
    config.train.label_smoothing = 0.1
    return config
