"""The last resort: errors that the system reports, each explained in one line."""

import errno
import os

import jax
import numpy as np
import pytest
import tensorstore

from alexnet_jax.cli import machine_errors


def looped(folder):
    """A link to itself."""
    (folder / "loop").symlink_to("loop")
    return folder / "loop"


def a_file(folder):
    """An empty file."""
    (folder / "file").touch()
    return folder / "file"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (lambda x: x / "none", "none: No such file or directory; check the path"),
        (lambda x: a_file(x) / "x", "file/x: Not a directory; a part of the path is a file"),
        (lambda x: x, "Is a directory; a folder is in the place of a file"),
        (lambda x: x / ("n" * 300), "File name too long; choose a shorter name"),
        (lambda x: looped(x), "loop: Too many levels of symbolic links; its links lead"),
    ],
    ids=["missing", "not a folder", "a folder", "too long", "loop"],
)
def test_what_the_system_reports_of_a_path_is_one_line(path, said, tmp_path):
    with pytest.raises(OSError) as error:
        path(tmp_path).read_text()
    assert said in machine_errors.explanation(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write anywhere")
def test_a_missing_right_is_one_line(tmp_path):
    a_file(tmp_path).chmod(0)
    with pytest.raises(PermissionError) as error:
        a_file(tmp_path).read_text()
    assert "file: Permission denied; give this user" in machine_errors.explanation(error.value)


def test_a_full_disk_is_one_line():
    with pytest.raises(OSError) as error, open("/dev/full", "w") as file:
        file.write("x")
        file.flush()
    assert machine_errors.explanation(error.value).endswith(
        "make room and give the same command again"
    )


def test_an_error_of_tensorstore_names_the_path(tmp_path):
    """It writes checkpoints; its errors have neither a code nor a file name."""
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{a_file(tmp_path)}/x/"}}
    with pytest.raises(Exception) as error:
        tensorstore.open(spec, create=True, dtype="float32", shape=[1]).result()
    line = machine_errors.explanation(error.value)
    assert line.startswith(f"{tmp_path}/file/x") and "Not a directory" in line


def test_a_package_that_is_missing_is_one_line():
    with pytest.raises(ModuleNotFoundError) as error:
        __import__("no_such_package.part")
    assert machine_errors.explanation(error.value) == (
        "package no_such_package is not installed; run: pip install -r requirements.txt"
    )


@pytest.mark.parametrize("place", ["host", "device"])
def test_memory_that_is_not_there_is_one_line(place):
    with pytest.raises((MemoryError, RuntimeError)) as error:
        if place == "host":
            np.zeros(10**15)
        else:
            jax.block_until_ready(jax.numpy.zeros(10**13))
    line = machine_errors.explanation(error.value)
    assert line.startswith("memory is exhausted (") and "lower the size of the batch" in line


def test_a_cause_is_looked_for():
    try:
        raise RuntimeError("it failed") from OSError(errno.EROFS, "Read-only file system", "/x")
    except RuntimeError as error:
        line = machine_errors.explanation(error)
    assert line == "/x: Read-only file system; name a place that can be written to"


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        ValueError("wrong shape"),
        OSError("no code, no path"),
        OSError(errno.EINVAL, "Invalid argument", "/x"),
        ModuleNotFoundError("x", name="alexnet_jax.nets.typo"),
    ],
    ids=repr,
)
def test_our_own_errors_keep_their_traceback(error):
    assert machine_errors.explanation(error) is None


@pytest.mark.parametrize(
    ("text", "encoding", "said"),
    [
        (os.fsdecode(b"caf\xe9.jpg"), "utf-8", "the name 'caf\\udce9.jpg' is not UTF-8; rename"),
        ("café", "ascii", "'caf\\xe9' cannot be written as ascii; run: export PYTHONUTF8=1"),
    ],
)
def test_a_text_that_cannot_be_written_is_one_line(text, encoding, said, tmp_path):
    with pytest.raises(UnicodeEncodeError) as error:
        (tmp_path / "file").write_text(text, encoding=encoding)
    assert said in machine_errors.explanation(error.value)
