"""The opening of the original data set that a request names."""

import functools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet_jax.disk.durable import write_text
from alexnet_jax.prepare import store_writer
from alexnet_jax.prepare.comparison import given_files_fingerprint
from alexnet_jax.prepare.disk_space import check_disk, store_bytes
from alexnet_jax.prepare.form import STANDARD_SIDE
from alexnet_jax.prepare.originals import cifar10, folder, imagenet, tfds
from alexnet_jax.prepare.originals.base import Original
from alexnet_jax.prepare.request import Request

if TYPE_CHECKING:
    import tensorflow_datasets

SCRATCH = "scratch"  # folder in the store for the files that TFDS makes of the originals …
CONVERTED = "converted_from"  # … and for the fingerprint of those originals


def open_original(request: Request) -> Original:
    """Opens the original data set; TFDS downloads or converts it first if it has to."""
    source = Path(request.source)
    if request.name == "folder":
        return folder.open_folder(source, skip_bad=request.on_bad_image == "skip")
    if request.name == "cifar10" and request.source:
        return cifar10.open_files(source)
    return open_tfds(request)


def open_tfds(request: Request) -> Original:
    """Opens a data set of TFDS; converts the originals if they have changed since the last time."""
    scratch = request.directory / SCRATCH
    fingerprint = given_files_fingerprint(request)
    builder = tfds.builder_of(request.name, scratch)
    if not builder.is_prepared() or converted_from(scratch) != fingerprint:
        convert(request, builder)
        write_text(scratch / CONVERTED, fingerprint)  # only now: a stopped conversion is repeated
    # CIFAR-10 as from its other sources: in the original order, verified by the original's sums.
    if request.name == "cifar10":
        examples = functools.partial(tfds.examples, builder, decoded=True)
        return cifar10.open_examples(examples, tfds.describe_builder(builder))
    return tfds.original_of_builder(builder, fingerprint)


def converted_from(scratch: Path) -> str:
    """Returns the fingerprint of the originals that TFDS has converted; empty if unknown."""
    path = scratch / CONVERTED
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def convert(request: Request, builder: "tensorflow_datasets.core.DatasetBuilder") -> None:
    """Lets TFDS download or convert the originals; replaces a conversion of other originals.

    Raises UserError if the server cannot be reached, ImageNet's tar files are not complete, or the
    disk has too little space.
    """
    source = Path(request.source)
    # With a scratch folder, an earlier command may have downloaded everything already.
    if not request.source and not (request.directory / SCRATCH).exists():
        tfds.check_reachable(builder)
    if request.name == "imagenet2012":
        wnids = frozenset(builder.info.features["label"].names)
        images = imagenet.check_tars(source, wnids, full=request.expected_counts == "full")
        side, encoding = request.image_size or STANDARD_SIDE, request.encoding or "jpeg"
        needed = imagenet.tar_bytes(source) + store_bytes(images, side, encoding)
        check_disk(request.directory, needed)
    # Before TFDS writes: a folder with files is only accepted with the record of its request.
    store_writer.begin(request.directory, request.recorded)
    # TFDS would keep the conversion of the other originals without a message.
    if builder.is_prepared():
        shutil.rmtree(builder.data_path)
    tfds.prepare_builder(builder, source if request.source else None)
