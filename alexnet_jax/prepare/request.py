"""A user's request for a store, and the checks of its flags."""

from dataclasses import asdict, dataclass
from pathlib import Path

from alexnet_jax.data import catalogue
from alexnet_jax.errors import UserError
from alexnet_jax.prepare.originals import imagenet
from alexnet_jax.prepare.originals.names import readable

SETTINGS = ("name", "image_size", "encoding", "expected_counts")  # recorded with the store


@dataclass(frozen=True)
class Request:
    """The flags of the command, as its --help describes them.

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
        """Returns the folder of the store."""
        return Path(self.dir) if self.dir else Path("data", self.name)

    @property
    def recorded(self) -> dict:
        """Returns the settings that must be the same when a stopped command is run again.

        on_bad_image is not among them: a command that stopped at a bad image may go on and skip it.
        """
        settings = {key: asdict(self)[key] for key in SETTINGS}
        return settings | {
            "source": readable(str(Path(self.source).resolve())) if self.source else ""
        }


def check_name_given(request: Request) -> None:
    """Raises UserError if the request names no data set, or one that needs no preparation."""
    if not request.name:
        raise UserError("--name is missing: give imagenet2012, cifar10, folder or a TFDS data set")
    if request.name in catalogue.EMBEDDED:
        raise UserError(f"--name={request.name} needs no preparation: train with it at once")


def check_source(request: Request) -> None:
    """Raises UserError if the originals are missing or misplaced, before TensorFlow is imported."""
    catalogue.check_name(request.name)
    source = Path(request.source)
    if request.source and not source.exists():
        raise UserError(f"--source={source} does not exist")
    if request.name in catalogue.NEEDS and not request.source:
        raise UserError(f"--source is missing: give --source=DIR{catalogue.NEEDS[request.name]}")
    if request.name == "folder" and request.directory.resolve().is_relative_to(source.resolve()):
        raise UserError(
            f"--dir={request.directory} lies in --source={source}, where the store would be taken "
            "for one of its folders: give a --dir outside it"
        )
    if request.name == "imagenet2012":
        imagenet.check_present(source)
