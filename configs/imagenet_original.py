"""The released code's run of "1 CNN": net 145 with the schedule in the comments of its files.

Command:   python -m alexnet_jax.main --config=configs/imagenet_original.py --workdir=runs/original
Evaluate:  … --mode=eval --config.eval.views=10
Data:      as configs/imagenet.py
Hardware:  the original's were two GTX 580 with 3 GB each.
Expected:  the original's log ends at 40.664 % top-1 and 18.210 % top-5 error in ten views. NOT RUN
           here: nobody has trained this config yet.
Differs from the original: we shuffle anew every epoch and draw crop, flip and noise for each image;
           it kept one order of files and drew crop and flip for 32 images at a time.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config() -> ConfigDict:
    """Returns the settings of imagenet.py with the released code's net and schedule."""
    config = imagenet.get_config()
    config.model.name = "alexnet_original"
    config.data.augment.colour = "code"
    config.data.augment.colour_listed = ((67, 0.0),)  # off for the last epochs
    # The original's rates were changed by hand, between two parts of the run.
    config.optim.schedule = "listed"
    config.optim.listed = ((25, 1e-3), (51, 1e-4), (79, 1e-5))
    config.optim.listed_layers = (("conv1", 67, 1e-5), ("conv1", 72, 0.0))  # lowered, then frozen
    config.optim.bias_follows = False  # biases kept their 0.02 to the end
    config.train.epochs = 91.0
    return config
