"""Configs with settings of `optim` changed, and small nets for them."""

from alexnet_jax.nets.variants import resolve
from configs.base import get_config


def config_of(**changes):
    config = get_config()
    for key, value in changes.items():
        config.optim[key] = value
    return config


def net_of(config, name="alexnet", crop=64):
    config.model.name, config.model.num_classes = name, 10
    config.model.width = 0.25 if crop == 64 else 1.0
    return resolve(config.model, crop)
