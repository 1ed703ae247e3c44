"""AlexNet in miniature on Tiny-ImageNet: 200 of ImageNet's classes, 100,000 pictures of 64 pixels.

Command:   python -m alexnet_jax.main --config=configs/tiny_imagenet.py --workdir=runs/tiny
Data:      python -m alexnet_jax.prepare --name=folder --source=DIR --dir=data/tiny_imagenet
           --encoding=raw, where DIR holds train/WNID/*.JPEG and, as the test set, the labelled
           validation pictures in test/WNID/*.JPEG
Hardware:  two CPU cores.
Expected:  see results/README.md for the runs that have been made.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """base.py with the released net at half its width, on crops of 56 of 64 pixels."""
    config = base.get_config()
    config.data.name = "folder"
    config.data.dir = "data/tiny_imagenet"
    config.data.image_size = 64
    config.data.crop_size = 56
    config.data.batch_size = 128
    config.data.val_fraction = 0.05
    config.data.device_megabytes = 2000
    config.data.augment.flip = True
    config.model.name = "alexnet_original"
    config.model.width = 0.5
    config.model.num_classes = 200
    config.train.epochs = 30.0
    config.train.log_every_steps = 100
    return config
