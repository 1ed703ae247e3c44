"""The two tar files of ILSVRC-2012, checked before TFDS reads them.

TFDS accepts a missing tar file and converts the other one. It labels the validation images by
counting, so that a gap shifts all labels after it. The checks refuse both.
"""

import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from alexnet_jax.errors import UserError
from alexnet_jax.prepare.fingerprint import fingerprint_files

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VAL_TAR = "ILSVRC2012_img_val.tar"
# The exact numbers of ILSVRC-2012; paper §2 has "roughly 1.2 million" and 50,000.
FULL_COUNTS = {"classes": 1000, "training images": 1_281_167, "validation images": 50_000}


def check_present(source: Path) -> None:
    """Raises UserError unless both tar files lie in the folder."""
    for name in (TRAIN_TAR, VAL_TAR):
        if not (source / name).is_file():
            raise UserError(
                f"{source / name} is missing: --source must hold {TRAIN_TAR} and {VAL_TAR} as "
                "downloaded from image-net.org"
            )


def is_present(source: Path) -> bool:
    """True if both tar files lie in the folder."""
    return all((source / name).is_file() for name in (TRAIN_TAR, VAL_TAR))


def fingerprint(source: Path) -> str:
    """Returns the fingerprint of both tar files."""
    return fingerprint_files(source, [source / TRAIN_TAR, source / VAL_TAR])


def tar_bytes(source: Path) -> int:
    """Returns the bytes of both tar files, roughly what TFDS will write."""
    return sum((source / name).stat().st_size for name in (TRAIN_TAR, VAL_TAR))


def check_tars(source: Path, wnids: Collection[str], *, full: bool) -> int:
    """Returns the number of images in both tar files, without reading the images.

    It takes minutes for all of ImageNet.

    Args:
      source: folder of the tar files.
      wnids: the known classes.
      full: True requires the counts of the complete ILSVRC-2012.

    Raises:
      UserError: a tar file is truncated or of another kind, a class is unknown, the validation
        images have a gap, or the counts are wrong.
    """
    counts = count_training(source / TRAIN_TAR, wnids) | count_validation(source / VAL_TAR)
    for what, number in counts.items():
        if number == 0 or (full and number != FULL_COUNTS[what]):
            raise UserError(
                f"{source} holds {number:,} {what} instead of {FULL_COUNTS[what]:,}: download the "
                "tar file again, or for a sample give --expected_counts=any"
            )
    return counts["training images"] + counts["validation images"]


def count_training(path: Path, wnids: Collection[str]) -> dict[str, int]:
    """Counts classes and images in the training tar, which holds a tar for each class."""
    classes, images = set(), 0
    with path.open("rb") as file:
        members = tqdm(
            walk(file, path), desc=f"checking {path.name}", unit=" classes", mininterval=1
        )
        for member in members:
            wnid = member.name.removesuffix(".tar")
            if wnid not in wnids or not member.isfile():
                raise UserError(f"{path} holds {member.name!r}, which is no class of ILSVRC-2012")
            classes.add(wnid)
            # Read in place: nothing is extracted, and tarfile seeks over the images.
            inner = Window(file, member.offset_data, member.size)
            images += sum(1 for _ in walk(inner, f"{path}: {member.name}"))
    return {"classes": len(classes), "training images": images}


def count_validation(path: Path) -> dict[str, int]:
    """Counts the images in the validation tar, whose names must run from 1 without gaps."""
    with path.open("rb") as file:
        names = sorted(member.name for member in walk(file, path))
    for number, name in enumerate(names, start=1):
        expected = f"ILSVRC2012_val_{number:08d}.JPEG"
        if name != expected:
            raise UserError(
                f"{path} has {name!r} where {expected} should be: the labels would be shifted; "
                "take the tar file as it was downloaded"
            )
    return {"validation images": len(names)}


class Window:
    """A section of an open file that behaves like a file of its own: a tar file in a tar file.

    file: open for reading.
    start, size: of the section, in bytes.
    """

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self.file, self.start, self.size, self.at = file, start, size, 0

    def seek(self, at: int) -> int:
        """Moves to byte `at` of the section."""
        self.at = at
        return at

    def tell(self) -> int:
        """Returns the position in the section."""
        return self.at

    def read(self, count: int) -> bytes:
        """Returns the next count bytes, or fewer at the end of the section."""
        self.file.seek(self.start + self.at)
        data = self.file.read(max(0, min(count, self.size - self.at)))
        self.at += len(data)
        return data


def walk(file: BinaryIO | Window, name: Path | str) -> Iterator[tarfile.TarInfo]:
    """Yields the members of an uncompressed tar file; raises UserError if it is truncated.

    A tar file ends with a block of zeros; without it, the file was cut between two members.
    """
    broken = f"{name} is truncated or no tar file: download it again"
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                yield member
                archive.members = []  # tarfile keeps all members: a million would fill the memory
            # tarfile also takes the end of a file that was cut between two members for the end.
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise UserError(broken)
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{broken} ({error})") from error
