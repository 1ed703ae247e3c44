"""Opens the original data set that a request names."""

import functools
from pathlib import Path

from alexnet_jax.prepare import store_writer
from alexnet_jax.prepare.disk_space import check_disk, store_bytes
from alexnet_jax.prepare.form import STANDARD_SIDE
from alexnet_jax.prepare.originals import cifar10, folder, imagenet, tfds
from alexnet_jax.prepare.originals.base import Original
from alexnet_jax.prepare.request import Request

SCRATCH = "scratch"  # in the store: files that TFDS makes of the originals


def open_original(request: Request) -> Original:
    """Opens the original data set; TFDS downloads or converts it first if it has to."""
    source = Path(request.source)
    if request.name == "folder":
        return folder.open_folder(source)
    if request.name == "cifar10" and request.source:
        return cifar10.open_files(source)
    builder = tfds.builder_of(request.name, request.directory / SCRATCH)
    if not builder.is_prepared():
        if request.name == "imagenet2012":
            wnids = frozenset(builder.info.features["label"].names)
            full = request.expected_counts == "full"
            images = imagenet.check_tars(source, wnids, full=full)
            side, encoding = request.image_size or STANDARD_SIDE, request.encoding or "jpeg"
            needed = imagenet.tar_bytes(source) + store_bytes(images, side, encoding)
            check_disk(request.directory, needed)
        store_writer.begin(request.directory, request.recorded)
        tfds.prepare_builder(builder, source if request.source else None)
    if request.name == "cifar10":
        return cifar10.open_examples(functools.partial(tfds.examples, builder, decoded=True))
    return tfds.original_of_builder(builder)
