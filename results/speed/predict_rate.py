"""Measures `predict` beside a PyTorch loop with torchvision's transforms on the same files.

Command:   PYTHONPATH=. python results/speed/predict_rate.py DIR > results/speed/predict_rate.md
Needs:     pip install torch torchvision

DIR is any folder of pictures. Both classify all of them with torchvision's AlexNet of 1,000 classes
(random parameters, which cost the same), in batches of 128: reading, decoding, the shorter side to
256 pixels, the centre of 224, the net, probabilities. Starting the programs and compiling do not
count. PyTorch runs in a process of its own, on the same cores, with its own settings: once with a
DataLoader of two worker processes, once reading and computing in turn.
"""

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

REPEATS, BATCH, SIDE, CLASSES = 5, 128, 256, 1000
WORKERS = 2  # of the DataLoader, one a core

Measured = tuple[float, float]  # pictures a second, and milliseconds of a core a picture
_classify: Callable[[int], int]  # in PyTorch's process, after _prepare


class Files:
    """Picture files as a data set of PyTorch, float32 [3, 224, 224]."""

    def __init__(self, paths: list[str], transforms: Callable) -> None:
        self.paths, self.transforms = paths, transforms

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        from PIL import Image

        return self.transforms(Image.open(self.paths[index]).convert("RGB"))


def measured(work: Callable[[], int]) -> Measured:
    """Times one call, which returns the number of its pictures; worker processes count too."""
    start, before = time.perf_counter(), sum(os.times()[:4])
    pictures = work()
    used = sum(os.times()[:4]) - before
    return pictures / (time.perf_counter() - start), 1000 * used / pictures


def _prepare(paths: list[str]) -> None:
    """Makes the net and the transforms that torchvision publishes with its AlexNet."""
    import torch
    from torchvision.models import AlexNet_Weights, alexnet

    global _classify
    net, transforms = alexnet().eval(), AlexNet_Weights.IMAGENET1K_V1.transforms()

    def classify(workers: int) -> int:
        loader = torch.utils.data.DataLoader(Files(paths, transforms), BATCH, num_workers=workers)
        with torch.inference_mode():
            return sum(len(net(images).softmax(-1).numpy()) for images in loader)

    classify(0)
    _classify = classify


def _measure(workers: int) -> Measured:
    return measured(lambda: _classify(workers))


def make_ours(paths: list[Path]) -> Callable[[], int]:
    """Returns the function that classifies all files as `predict` does."""
    import jax
    import jax.numpy as jnp

    from alexnet_jax.nets.model import build_model
    from alexnet_jax.parallel import Layout, make_devices
    from alexnet_jax.predict.loaded_net import LoadedNet, compute_outputs, make_classifier
    from alexnet_jax.preprocess import InputStats
    from configs import imagenet

    config = imagenet.get_config()
    config.model.name, config.model.num_classes = "one_weird_trick", CLASSES
    model = build_model(config)
    image = jnp.zeros((1, model.net.crop, model.net.crop, 3))
    params = jax.jit(model.init)(jax.random.key(0), image)["params"]
    stats = InputStats(jnp.full(3, 120.0), jnp.full(3, 1 / 58))
    net = LoadedNet(model, params, stats, make_devices(Layout()), SIDE, ())
    compute = make_classifier(net, views=1)

    def classify() -> int:
        outputs = compute_outputs(compute, net, paths, BATCH)
        assert not any(output.error for output in outputs)
        return len(outputs)

    classify()
    return classify


def main() -> None:
    """Measures all three in each repeat and prints a table."""
    from alexnet_jax import environment
    from alexnet_jax.benchmark.rates import ratios
    from alexnet_jax.cli.tables import markdown_table
    from alexnet_jax.predict import pictures

    environment.keep_freed_memory()
    paths = pictures.find([sys.argv[1]], "images")
    pool = ProcessPoolExecutor(1, get_context("spawn"))
    pool.submit(_prepare, list(map(str, paths))).result()
    classify, ours = make_ours(paths), "`predict`"
    measures: dict[str, Callable[[], Measured]] = {
        f"PyTorch, {WORKERS} worker processes": lambda: pool.submit(_measure, WORKERS).result(),
        "PyTorch, reading and computing in turn": lambda: pool.submit(_measure, 0).result(),
        ours: lambda: measured(classify),
    }
    load, found = [], {name: [] for name in measures}
    for _ in range(REPEATS):
        load.append(os.getloadavg()[0])
        for name, measure in measures.items():
            found[name].append(measure())
    own = [rate for rate, _ in found[ours]]
    rows = [("", "pictures/s", "lowest … highest", "ms of a core a picture", "`predict` is")]
    for name, results in found.items():
        rates, used = zip(*results, strict=True)
        times = ratios(own, rates)
        spread, ratio = f"{min(rates):.0f} … {max(rates):.0f}", f"{median(times):.2f} times as fast"
        ratio = "" if name == ours else f"{ratio} ({min(times):.2f} … {max(times):.2f})"
        rows.append((name, f"{median(rates):.0f}", spread, f"{median(used):.0f}", ratio))
    print(
        f"{len(paths)} files, {REPEATS} repeats, {len(os.sched_getaffinity(0))} cores, load "
        f"average from {min(load):.1f} to {max(load):.1f}\n\n{markdown_table(rows)}"
    )


if __name__ == "__main__":
    main()
