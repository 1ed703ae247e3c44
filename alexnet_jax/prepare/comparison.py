"""Comparison of a request with the store that its folder holds: settings and original files."""

from pathlib import Path

from alexnet_jax.data import store
from alexnet_jax.errors import UserError
from alexnet_jax.prepare import store_files
from alexnet_jax.prepare.fingerprint import fingerprint_files
from alexnet_jax.prepare.lock import LOCK
from alexnet_jax.prepare.originals import folder, imagenet
from alexnet_jax.prepare.request import Request


def check_directory(request: Request) -> None:
    """Raises UserError if the folder of the store holds something else than was requested."""
    directory = request.directory
    if directory.exists() and not directory.is_dir():
        raise UserError(f"--dir={directory} is a file: give a folder")
    if store.is_complete(directory):
        check_complete(request, store.read_manifest(directory))
    elif (directory / store.PARTIAL).is_file():
        recorded = store_files.read_json(directory / store.PARTIAL)
        check_same(request, request.recorded, recorded, "was begun with")
    elif directory.is_dir() and any(entry.name != LOCK for entry in directory.iterdir()):
        raise UserError(f"{directory} is not empty and holds no store: give another --dir")


def check_complete(request: Request, manifest: dict) -> None:
    """Raises UserError unless a complete store is the one that this request would write.

    Originals that were removed after the store was written are not missed.
    """
    # Older stores have no origin: they are compared by the settings that their manifests have.
    if store.ORIGIN not in manifest:
        given = {key: value for key, value in request.recorded.items() if value and key in manifest}
        check_same(request, given, manifest, "has")
        return
    origin = manifest[store.ORIGIN]
    check_same(request, request.recorded, origin["request"], "has")
    found = current_fingerprints(request)
    if found and found != set(origin["fingerprints"].values()):
        raise UserError(
            f"the files in {request.source} are not those that the store in {request.directory} "
            "was prepared from: give another --dir, or remove the folder to prepare it again"
        )


def check_same(request: Request, given: dict, recorded: dict, verb: str) -> None:
    """Raises UserError for the first given setting that differs from the recorded one."""
    for key, value in given.items():
        if recorded.get(key) != value:
            old, new = (x if x != "" else "nothing" for x in (recorded.get(key), value))
            raise UserError(
                f"the store in {request.directory} {verb} {key}={old}, not {new}: give the same, "
                "give another --dir, or remove the folder"
            )


def current_fingerprints(request: Request) -> set[str]:
    """Returns the fingerprints of the original files; empty if there is nothing to compare.

    That is so if the files were downloaded or removed, or if they are CIFAR-10's.
    """
    source = Path(request.source)
    # CIFAR-10's content is verified by SHA-1 whenever it is read: it cannot be another.
    if not request.source or not source.exists() or request.name == "cifar10":
        return set()
    if request.name == "folder":
        return set(folder.fingerprints(source).values())
    if request.name == "imagenet2012" and not imagenet.is_present(source):
        return set()
    return {given_files_fingerprint(request)}


def given_files_fingerprint(request: Request) -> str:
    """Returns the fingerprint of the files in --source that TFDS reads; empty without --source."""
    source = Path(request.source)
    # Only the two tar files: others in the folder are not read.
    if request.name == "imagenet2012":
        return imagenet.fingerprint(source)
    if not request.source:
        return ""
    return fingerprint_files(source, sorted(x for x in source.rglob("*") if x.is_file()))
