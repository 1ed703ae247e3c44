"""Data sets: reading the originals, the store on disk, batches of uint8 images.

`prepare` reads an original once (`imagenet`, `cifar10`, `folder`, `tfds_source`) and writes the
store (`images`, `statistics`, `store_writer`, `store_files`, `threads`). Training opens it (`open`,
`store`, `embedded`) and takes batches from it (`pipeline`), each image verified (`records`).
"""

from alexnet_jax.data.catalogue import Summary, check_available, open_dataset, summary
from alexnet_jax.data.store import Dataset, Split

__all__ = ["Dataset", "Split", "Summary", "check_available", "open_dataset", "summary"]
