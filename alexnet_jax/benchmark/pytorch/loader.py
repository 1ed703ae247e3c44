"""A usual loader in PyTorch: JPEG files, Pillow, a DataLoader of two workers.

The workers import this file, so it imports nothing that they do not need.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

WORKERS = 2


class Files(Dataset):
    """Random crops of JPEG files, uint8 [3, crop, crop], mirrored with probability 1/2."""

    def __init__(self, paths: Sequence[Path], crop: int) -> None:
        self.paths, self.crop = paths, crop

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        pixels = np.asarray(Image.open(self.paths[index]).convert("RGB"))
        row, column = (torch.randint(n - self.crop + 1, ()).item() for n in pixels.shape[:2])
        pixels = pixels[row : row + self.crop, column : column + self.crop]
        if torch.rand(()) < 0.5:
            pixels = pixels[:, ::-1]
        # A copy, because from_numpy refuses the negative strides of a mirrored view.
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def loader_rate(paths: Sequence[Path], crop: int, batch_size: int) -> Callable[[], float]:
    """Returns a function that measures the loader in images per second.

    Each call reads all files in a new random order. The workers are kept, so that starting them
    does not count.
    """
    loader = DataLoader(
        Files(paths, crop),
        batch_size,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
        multiprocessing_context="spawn",  # a fork would inherit XLA's threads and their locks
    )

    def measure() -> float:
        start = time.perf_counter()
        count = sum(len(batch) for batch in loader)
        return count / (time.perf_counter() - start)

    measure()  # starts the workers
    return measure
