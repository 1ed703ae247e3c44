"""Pictures that a person has put into the training set and the test set by mistake."""

import numpy as np
import pytest
from image_files import jpeg, picture, write_folder
from prepare_command import printed, run

from alexnet_jax.data.store import Split
from alexnet_jax.prepare.shared_images import shared_images

FLAGS = ("--name=folder", "--image_size=24")


def content(test):
    """A folder of five training pictures, two of them the same, and these test pictures."""
    files = {f"{i}.jpg": jpeg(picture(30, 30, i)) for i in range(4)}
    return {"train": {"cat": files, "dog": {"copy.jpg": files["1.jpg"]}}, "test": {"dog": test}}


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_pictures_of_both_sets_are_counted_and_one_is_named(tmp_path, capsys, encoding):
    test = {f"{i}.jpg": jpeg(picture(30, 30, i)) for i in (9, 1, 3)}
    source = write_folder(tmp_path / "pictures", content(test))
    run(*FLAGS, f"--source={source}", f"--dir={tmp_path / 'store'}", f"--encoding={encoding}")
    out = printed(capsys)
    assert "warning: 2 of 3 test images are in the training set too" in out
    assert "such as test/dog/1.jpg = train/cat/1.jpg;" in out


def test_different_pictures_give_no_warning(tmp_path, capsys):
    source = write_folder(tmp_path / "pictures", content({"9.jpg": jpeg(picture(30, 30, 9))}))
    run(*FLAGS, f"--source={source}", f"--dir={tmp_path / 'store'}")
    assert "warning" not in printed(capsys)


def test_equal_checksums_of_different_pictures_are_no_match():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 4, 4, 3)).astype(np.uint8)
    same = np.full(3, 7, np.uint32)  # as if the CRC-32 of all three were equal
    training = Split(pictures, np.zeros(3, np.int32), checksums=same)
    other = Split(pictures[[2]] ^ np.uint8(1), np.zeros(1, np.int32), checksums=same[:1])
    assert shared_images(training, other) == {}
    copied = Split(pictures[[2]], np.zeros(1, np.int32), checksums=same[:1])
    assert shared_images(training, copied) == {0: 2}
