"""Any image-classification data set of TensorFlow Datasets (TFDS)."""

import contextlib
import logging
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from absl import logging as absl_logging

from alexnet_jax.data.lazy_tensorflow import tensorflow
from alexnet_jax.errors import UserError
from alexnet_jax.prepare.originals.base import Original, OriginalImage

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

# Our name of each split: TFDS's names, the first that exists.
SPLITS = {"train": ("train",), "val": ("validation", "val", "dev"), "test": ("test",)}
OPEN_FILES = 65536  # TFDS opens about a thousand when it shuffles ImageNet
PATIENCE = 10  # seconds to wait for a server's first answer


def builder_of(name: str, directory: Path) -> "tfds.core.DatasetBuilder":
    """Returns TFDS's builder of a data set, with its files in this folder.

    Does not import TensorFlow. Raises UserError for a name that TFDS does not know, and for a data
    set that has no image or no label.
    """
    import tensorflow_datasets as tfds

    # TFDS warns about ordinary events, and urllib3 about every retry of a download.
    absl_logging.set_verbosity(absl_logging.ERROR)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        builder = tfds.builder(name, data_dir=str(directory))
    except (ValueError, tfds.core.registered.DatasetNotFoundError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"TFDS has no data set {name!r}: {reason}") from error
    features = builder.info.features or {}
    labelled = "label" in features and isinstance(features["label"], tfds.features.ClassLabel)
    if "image" not in features or not labelled:
        raise UserError(f"{name} is not an image-classification data set: it needs image and label")
    return builder


def check_reachable(builder: "tfds.core.DatasetBuilder") -> None:
    """Raises UserError if the server that the data set is downloaded from cannot be reached.

    TFDS itself would try for minutes.
    """
    # `requests`, because TFDS downloads with it too: by the same proxies and certificates.
    import requests

    urls = [url for url in builder.url_infos or () if url.startswith("http")]
    try:
        # One url is enough, and a data set without urls needs no network.
        for url in urls[:1]:
            requests.head(url, timeout=PATIENCE)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise UserError(
            f"{urlsplit(urls[0]).hostname} cannot be reached, from which TFDS downloads "
            f"{builder.name}: mend the network, or give the folder with the originals as --source"
        ) from error


def prepare_builder(builder: "tfds.core.DatasetBuilder", manual: Path | None) -> None:
    """Lets TFDS download the data set, or read it from the folder `manual`, once.

    Raises UserError if TFDS cannot prepare the data set.
    """
    import tensorflow_datasets as tfds

    tensorflow()  # before TFDS imports it, so that no GPU is taken
    raise_open_files()
    # TFDS leaves the folders of stopped attempts, which can be as large as the data set.
    for leftover in Path(builder.data_path).parent.glob("*incomplete*"):
        shutil.rmtree(leftover)
    config = tfds.download.DownloadConfig(manual_dir=str(manual) if manual else None)
    try:
        builder.download_and_prepare(download_config=config)
    except (OSError, AssertionError, tfds.download.DownloadError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"TFDS cannot prepare {builder.name}: {reason}; if it cannot be downloaded, give the "
            "folder with the originals as --source"
        ) from error


def raise_open_files() -> None:
    """Raises this process's limit of open files, up to OPEN_FILES if the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def describe_builder(builder: "tfds.core.DatasetBuilder") -> str:
    """Returns name and version of TFDS's data set, for people."""
    return f"TensorFlow Datasets {builder.info.full_name}"


def original_of_builder(builder: "tfds.core.DatasetBuilder", fingerprint: str) -> Original:
    """Opens the labelled splits train, validation and test of a data set that TFDS has prepared.

    Args:
      builder: prepared.
      fingerprint: of the files that the user gave to TFDS; empty if TFDS downloaded them.

    Raises:
      UserError: there are no labelled training images.
    """
    names = {}
    for ours, theirs in SPLITS.items():
        found = [name for name in theirs if name in builder.info.splits]
        # TFDS gives the images of a split without labels, such as ImageNet's test, the label −1.
        if found and next(examples(builder, found[0]))["label"] >= 0:
            names[ours] = found[0]
    if "train" not in names:
        raise UserError(f"{builder.name} has no split `train` with labels")
    features = builder.info.features

    def read(split: str) -> Iterator[OriginalImage]:
        for index, example in enumerate(examples(builder, names[split])):
            file_name = example.get("file_name", str(index).encode()).decode()
            yield OriginalImage(f"{split} image {file_name}", example["image"], example["label"])

    height, width = features["image"].shape[:2]
    return Original(
        tuple(features["label"].names),
        {ours: builder.info.splits[theirs].num_examples for ours, theirs in names.items()},
        read,
        (height, width) if height and width else None,
        describe_builder(builder),
        dict.fromkeys(names, fingerprint),
    )


def examples(
    builder: "tfds.core.DatasetBuilder", split: str, *, decoded: bool = False
) -> Iterator[dict]:
    """Yields the examples of a split in TFDS's fixed order, as dicts of NumPy values.

    Args:
      builder: prepared.
      split: TFDS's name of the split.
      decoded: True gives images as pixels, False as encoded files.
    """
    import tensorflow_datasets as tfds

    tensorflow()  # before TFDS imports it, so that no GPU is taken
    # Other features, such as bounding boxes, are not decoded.
    wanted = {"image", "label", "file_name", "id"} & set(builder.info.features)
    dataset = builder.as_dataset(
        split=split,
        decoders=tfds.decode.PartialDecoding(
            dict.fromkeys(wanted, True),
            decoders=None if decoded else {"image": tfds.decode.SkipDecoding()},
        ),
        # One file after the other: interleaved reading has another order on another machine.
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    return dataset.as_numpy_iterator()
