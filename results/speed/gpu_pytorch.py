"""Measures AlexNet's training step and PyTorch's in turn, on one device.

PYTHONPATH=. python results/speed/gpu_pytorch.py SECONDS ROUNDS [CROP]

Both run the same layers from the same weights on a batch of 128 that stays on the device. Products
of float32 numbers are TF32 in both, and cuDNN chooses the fastest algorithms in both. PyTorch is
eager.
"""

import os
import sys
import time
from statistics import median

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # both share the memory

import torch
from gpu_rates import alexnet

from alexnet_jax.benchmark.pytorch import twin
from alexnet_jax.benchmark.training import Training
from alexnet_jax.data import open_dataset

torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
torch.backends.cudnn.benchmark = True
seconds, rounds = float(sys.argv[1]), int(sys.argv[2])
crop = int(sys.argv[3]) if len(sys.argv) > 3 else 224
config = alexnet(crop * 8 // 7, crop, 1.0)
config.data.synthetic_images = 512
config.data.synthetic_classes = config.model.num_classes = 1000
start = time.time()
training = Training(config, open_dataset(config.data))
theirs = twin.step_rate(config, training.params(), 16, training.devices.is_gpu)
theirs(0.0)
print(
    f"both are compiled after {time.time() - start:.0f} s; crop {crop}; PyTorch {torch.__version__}"
)
found = []
for _ in range(rounds):
    found.append((training.step_rate(seconds), theirs(seconds)))
    print("ours {:9,.0f}   PyTorch {:9,.0f} images/s".format(*found[-1]), flush=True)
ratios = [ours / other for ours, other in found]
print(f"ratio {median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
