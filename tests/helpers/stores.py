"""Small stores, as `prepare` writes them."""

import numpy as np

from alexnet_jax.prepare import store_writer
from alexnet_jax.prepare.originals.base import Original, OriginalImage


def write_store(directory, splits, encoding="raw", side=8, name="folder"):
    """A store of random images; returns {split: uint8 [N, side, side, 3]}."""
    rng = np.random.default_rng(0)
    images = {
        k: rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8) for k, n in splits.items()
    }

    def read(split):
        for index, image in enumerate(images[split]):
            yield OriginalImage(f"{split} {index}", image, index % 3)

    original = Original(("a", "b", "c"), splits, read)
    store_writer.begin(directory, {})
    form = store_writer.Form(side, resize=False, encoding=encoding, skip_bad=False)
    store_writer.write_store(directory, name, original, form)
    return images
