"""The digits with batch normalisation and one column: 96-256-384-384-256 maps without groups.

Command:   python -m alexnet_jax.main --config=configs/modern/one_column.py --workdir=runs/column
Hardware:  as configs/base.py.
Expected:  docs/recipes.md.
"""

from ml_collections import ConfigDict

from configs.modern import batch_norm


def get_config() -> ConfigDict:
    """Returns the settings of batch_norm.py with one column: each layer reads all maps below."""
    config = batch_norm.get_config()
    config.model.towers = 1
    return config
