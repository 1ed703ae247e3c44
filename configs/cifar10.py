"""CIFAR-10 with cuda-convnet's 18 % net: three convolutions, weight decay by layer.

Command:   python -m alexnet_jax.main --config=configs/cifar10.py --workdir=runs/cifar10
Data:      python -m alexnet_jax.prepare --name=cifar10, which downloads it, or --source=… for the
           original binary files
Hardware:  two CPU cores or any GPU.
Reached:   18.2 % test error on all 50,000 images (--config.data.val_fraction=0.0), one seed, 10
           minutes on a GPU that other runs shared; cuda-convnet's own note says 18 %. On two CPU
           cores an epoch takes about 35 seconds. Here a tenth is held out by default.
Others:    --config.model.name=cuda_convnet_11pct --config.data.crop_size=24
           --config.data.augment.crop=True --config.data.augment.flip=True
           --config.data.val_fraction=0.0 --config.train.epochs=520
           --config.optim.listed='((500, 1e-4), (510, 1e-5))': 10.8 % in ten views, two seeds,
           15 minutes on a GPU that nine other runs shared (docs/claims.md)
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Returns the settings of base.py with the net, rates and schedule of `layers-18pct.cfg`."""
    config = base.get_config()
    config.data.name = "cifar10"
    config.data.image_size = 32
    config.data.crop_size = 32
    config.data.batch_size = 128
    config.data.augment.crop = False  # the whole image of 32 pixels
    config.model.name = "cuda_convnet_18pct"
    config.model.width = 1.0
    config.model.num_classes = 10
    config.optim.learning_rate = 0.001
    config.optim.schedule = "listed"
    config.optim.listed = ((120, 1e-4), (130, 1e-5))  # the file: ÷ 10 after 120, then 10 epochs
    config.train.epochs = 140.0
    config.train.log_every_steps = 50
    return config
