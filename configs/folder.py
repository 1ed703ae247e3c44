"""Your own folder of pictures, from scratch: the paper's net at a quarter of its width.

Command:   python -m alexnet_jax.main --config=configs/folder.py --workdir=runs/photos
Data:      python -m alexnet_jax.prepare --name=folder --source=photos --dir=data/photos
Hardware:  two CPU cores, or any GPU with --config.model.width=1.0.
Expected:  depends on the pictures. With less than some thousand of each class, configs/finetune.py
           reaches lower errors.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Returns the settings of base.py with the released std, on pictures of 256 pixels.

    The augmentation is the paper's.
    """
    config = base.get_config()
    config.data.name = "folder"
    config.data.dir = "data/photos"
    config.data.image_size = 256
    config.data.crop_size = 224
    config.data.augment.flip = True
    config.data.augment.colour = "paper"
    config.model.name = "alexnet_released_std"
    config.train.epochs = 60.0
    return config
