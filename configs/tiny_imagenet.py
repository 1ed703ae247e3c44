"""The released net on Tiny-ImageNet: 200 of ImageNet's classes, 100,000 pictures of 64 pixels.

Command:   python -m alexnet_jax.main --config=configs/tiny_imagenet.py --workdir=runs/tiny
Evaluate:  … --mode=eval --config.eval.views=10
Data:      python -m alexnet_jax.prepare --name=folder --source=DIR --dir=data/tiny_imagenet
           --image_size=128 --encoding=raw, where DIR is the folder tiny-imagenet-200 as its makers
           pack it. The runs below held 5 % of its training pictures out and were tested on its
           10,000 labelled validation pictures (launch/evidence.py makes such a store). In a store
           of DIR itself these are the validation split, and all training pictures are trained on.
Hardware:  one GPU: three such runs at once took 4.3 minutes on an H200. Two CPU cores: see below.
Reached:   45.2 ± 0.4 % top-1 and 70.9 ± 0.3 % top-5 accuracy in ten views, three seeds;
           54.6 % top-1 error for the three together in one view (results/tiny_imagenet).
On a CPU:  --config.data.image_size=64 --config.data.crop_size=56 --config.model.width=0.5 and a
           store without --image_size: 75 to 90 seconds an epoch, 24.6 % top-1 accuracy after 14
           epochs at twice the rate (results/ablations, "reference").
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Returns the settings of base.py with the released net on crops of 112 of 128 pixels."""
    config = base.get_config()
    config.data.name = "folder"
    config.data.dir = "data/tiny_imagenet"
    config.data.image_size = 128
    config.data.crop_size = 112
    config.data.batch_size = 128
    config.data.val_fraction = 0.05
    config.data.device_megabytes = 6000  # 95,000 raw images of 128 pixels take 4,670
    config.data.augment.flip = True
    config.data.augment.colour = "code"
    config.model.name = "alexnet_original"
    config.model.width = 1.0
    config.model.num_classes = 200
    config.optim.schedule = "listed"
    config.optim.listed = ((23, 1e-3), (28, 1e-4), (30, 1e-5))
    config.train.epochs = 32.0
    config.train.log_every_steps = 100
    config.eval.batch_size = 1000
    return config
