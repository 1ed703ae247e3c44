"""Measures the training step of several nets on one device, on its own and with batches.

PYTHONPATH=. python results/speed/gpu_rates.py SECONDS NAME [NAME …]
"""

import sys
import time

from ml_collections import ConfigDict

from alexnet_jax.benchmark.training import Training
from alexnet_jax.data import open_dataset
from configs import base, cifar10


def alexnet(image_size: int, crop: int, width: float, dtype: str = "float32") -> ConfigDict:
    """Returns a config of the released net on 4,096 synthetic images that stay on the device."""
    config = base.get_config()
    config.data.name, config.data.synthetic_classes = "synthetic", 200
    config.data.synthetic_images, config.data.device_megabytes = 4096, 2000
    config.data.image_size, config.data.crop_size, config.data.batch_size = image_size, crop, 128
    config.data.augment.flip = True
    config.model.name, config.model.width = "alexnet_original", width
    config.train.compute_dtype = dtype
    return config


def cifar(name: str, crop: int) -> ConfigDict:
    """Returns a config of a CIFAR-10 net on 4,096 synthetic images that stay on the device."""
    config = cifar10.get_config()
    config.data.name, config.data.synthetic_classes = "synthetic", 10
    config.data.synthetic_images = 4096
    config.model.name, config.data.crop_size = name, crop
    config.data.augment.crop = config.data.augment.flip = crop < 32
    return config


CASES = {
    "width_0.5_crop_56": alexnet(64, 56, 0.5),
    "width_1_crop_56": alexnet(64, 56, 1.0),
    "width_0.5_crop_56_bfloat16": alexnet(64, 56, 0.5, "bfloat16"),
    "width_1_crop_112": alexnet(128, 112, 1.0),
    "width_1_crop_112_bfloat16": alexnet(128, 112, 1.0, "bfloat16"),
    "width_0.5_crop_112": alexnet(128, 112, 0.5),
    "width_1_crop_224": alexnet(256, 224, 1.0),
    "width_1_crop_224_bfloat16": alexnet(256, 224, 1.0, "bfloat16"),
    "cuda_convnet_18pct": cifar("cuda_convnet_18pct", 32),
    "cuda_convnet_13pct": cifar("cuda_convnet_13pct", 24),
    "cuda_convnet_11pct": cifar("cuda_convnet_11pct", 24),
    "four_layer": cifar("four_layer", 32),
}


def main() -> None:
    """Prints the rates of the named cases, or of all."""
    for name in sys.argv[2:] or CASES:
        start = time.time()
        training = Training(CASES[name], open_dataset(CASES[name].data))
        compiled, seconds = time.time() - start, float(sys.argv[1])
        rates = f"{training.step_rate(seconds):9,.0f} {training.end_to_end_rate(seconds):9,.0f}"
        print(f"{name:28} {compiled:5.1f} s {rates} images/s", flush=True)


if __name__ == "__main__":
    main()
