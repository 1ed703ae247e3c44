"""Runs the commands that convert and export weights, in the tests' own process."""

import jax
import numpy as np
import weight_files
from foreign_nets import BLOBS, STATE

import alexnet_jax
from alexnet_jax import convert, export
from alexnet_jax.cli import command, config_flag

# Small random weights of each kind of foreign net: a writer of files, its arrays, the flags.
CASES = {
    "caffe_alexnet": (weight_files.caffemodel_of_2013, BLOBS, "--layout=caffe"),
    "caffenet": (weight_files.npz, BLOBS, "--layout=caffe", "--model=caffenet"),
    "one_weird_trick": (weight_files.pth, STATE, "--layout=torchvision"),
}


def run_convert(*arguments):
    argv = config_flag.with_default(["convert", *map(str, arguments)], convert.CONFIG)
    return convert.main(command.parse(argv, convert.define_flags, with_config=True))


def run_export(*arguments):
    return export.main(command.parse(["export", *map(str, arguments)], export.define_flags))


def convert_to(folder, writer, arrays, *flags):
    """Writes a file of these arrays, converts it, and returns the workdir."""
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_bytes(writer(arrays))
    assert run_convert(f"--from={folder / 'weights'}", f"--workdir={folder / 'run'}", *flags) == 0
    return folder / "run"


def params_of(workdir):
    """The parameters of a workdir as NumPy arrays."""
    return jax.device_get(alexnet_jax.load(workdir)[1]["params"])


def assert_same_params(one, other):
    jax.tree.map(np.testing.assert_array_equal, params_of(one), params_of(other))
