"""Data sets as training reads them: a store on disk, and batches of uint8 images.

catalogue          the data set that `config.data` names, and its validation split
store              the format on disk, verified when it is opened (`prepare` writes it)
embedded           data sets that are made in memory: digits, synthetic
pipeline           batches: the order of the images, and their reading ahead of time
records            single images of a split, each verified against its checksum
images             original image files: decoding, resizing, encoding
image_statistics   the mean image and the colour components of a training set
threads            ordered results from a pool of threads
lazy_tensorflow    the only import of TensorFlow
library_messages   messages of image libraries, discarded
"""

from alexnet_jax.data.catalogue import (
    Summary,
    check_available,
    check_crop,
    open_dataset,
    summary,
)
from alexnet_jax.data.store import Dataset, Split

__all__ = [
    "Dataset",
    "Split",
    "Summary",
    "check_available",
    "check_crop",
    "open_dataset",
    "summary",
]
