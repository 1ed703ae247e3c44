"""The digits in batches of 256: LARS, a warm-up, and a rate in proportion to the batch.

Command:   python -m alexnet_jax.main --config=configs/modern/large_batch.py --workdir=runs/large
Hardware:  as configs/base.py.
Expected:  docs/recipes.md.
Sources:   You et al., arXiv 1708.03888 (LARS); Goyal et al., arXiv 1706.02677 (linear scaling and
           warm-up). With --config.data.batch_size=N the rate follows.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Returns the settings of base.py with eight times the batch and LARS."""
    config = base.get_config()
    config.data.batch_size = 256
    per_image = config.optim.learning_rate / 32  # base.py's rate is for batches of 32
    config.optim.learning_rate = config.data.get_ref("batch_size").to_float() * per_image
    config.optim.name = "lars"
    config.optim.trust_coefficient = 0.1
    config.optim.warmup_epochs = 3.0
    config.optim.schedule = "linear"
    return config
