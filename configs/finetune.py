"""Fine-tuning on your own folder of pictures: a trained net that gets a new classifier.

Command:   python -m alexnet_jax.main --config=configs/finetune.py --workdir=runs/photos
Data:      python -m alexnet_jax.prepare --name=folder --source=photos --dir=data/photos
Net:       --config.init_from=DIR, any run or converted weights, by default runs/pretrained. It
           brings its net, its crop and its input; the classifier is drawn for the new classes.
Hardware:  two CPU cores, or any GPU.
Expected:  depends on the pictures and on the net; docs/finetuning.md has the recipe.
"""

from ml_collections import ConfigDict

from configs import folder


def get_config() -> ConfigDict:
    """Returns the settings of folder.py with a tenth of the rate, except for the classifier."""
    config = folder.get_config()
    config.init_from = "runs/pretrained"
    config.data.augment.colour = "none"
    config.optim.learning_rate = 0.001
    config.optim.layer_factors = (("fc8", 10.0),)  # it alone starts from random weights
    config.optim.schedule = "cosine"
    config.train.epochs = 20.0
    return config
