"""A user's request for a store, and its checks: by itself, and against the folder of the store."""

from dataclasses import asdict, dataclass
from pathlib import Path

from alexnet_jax.data import catalogue, store
from alexnet_jax.errors import UserError
from alexnet_jax.prepare import store_files
from alexnet_jax.prepare.originals import folder, imagenet


@dataclass(frozen=True)
class Request:
    """The flags of the command.

    image_size: None = 256, or unchanged if all images are small squares of one size.
    encoding: None = jpeg, or raw if images stay unchanged.
    """

    name: str
    source: str
    dir: str
    image_size: int | None
    encoding: str | None
    on_bad_image: str
    expected_counts: str

    @property
    def directory(self) -> Path:
        """The folder of the store."""
        return Path(self.dir) if self.dir else Path("data", self.name)

    @property
    def recorded(self) -> dict:
        """The settings that must be the same when a stopped command is run again."""
        kept = asdict(self) | {"source": str(Path(self.source).resolve()) if self.source else ""}
        return {key: kept[key] for key in kept if key not in ("dir", "on_bad_image")}


def check(request: Request) -> None:
    """Raises UserError for flags that cannot be right, before TensorFlow is imported."""
    if not request.name:
        raise UserError("--name is missing: give imagenet2012, cifar10, folder or a TFDS data set")
    if request.name in catalogue.EMBEDDED:
        raise UserError(f"--name={request.name} needs no preparation: train with it at once")
    check_directory(request)
    if store.is_complete(request.directory):
        return
    catalogue.check_name(request.name)
    source = Path(request.source)
    if request.source and not source.exists():
        raise UserError(f"--source={source} does not exist")
    if request.name in catalogue.NEEDS and not request.source:
        raise UserError(f"--source is missing: give --source=DIR{catalogue.NEEDS[request.name]}")
    if request.name == "imagenet2012":
        imagenet.check_present(source)
    if request.name == "folder" and request.on_bad_image == "fail":
        folder.check_starts(source)


def check_directory(request: Request) -> None:
    """Raises UserError if the folder of the store holds something else."""
    directory = request.directory
    if directory.exists() and not directory.is_dir():
        raise UserError(f"--dir={directory} is a file: give a folder")
    if store.is_complete(directory):
        check_complete(request, store.read_manifest(directory))
    elif (directory / store.PARTIAL).is_file():
        begun = store_files.read_json(directory / store.PARTIAL)
        for key, value in request.recorded.items():
            if begun.get(key) != value:
                raise UserError(
                    f"the store in {directory} was begun with {key}={begun.get(key)}, not {value}: "
                    "give the same, or remove the folder"
                )
    elif directory.is_dir() and any(directory.iterdir()):
        raise UserError(f"{directory} is not empty and holds no store: give another --dir")


def check_complete(request: Request, manifest: dict) -> None:
    """Raises UserError if a complete store is not the requested one."""
    asked = {"name": request.name, "encoding": request.encoding}
    asked |= {"image_size": request.image_size}
    for key, value in asked.items():
        if value and manifest[key] != value:
            raise UserError(
                f"the store in {request.directory} has {key}={manifest[key]}, not {value}: give "
                "another --dir, or remove the folder"
            )
