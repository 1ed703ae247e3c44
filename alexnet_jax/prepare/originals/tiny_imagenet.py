"""The validation images of Tiny-ImageNet, as its makers pack them.

val/images/val_0.JPEG, …         all images in one folder
val/val_annotations.txt          a line per image: its name, its class, and its bounding box
test/images/test_0.JPEG, …       without labels
train/WNID/images/*.JPEG         class folders, which `class_folders` reads
"""

from pathlib import Path

from alexnet_jax.errors import UserError
from alexnet_jax.prepare.originals.class_folders import ClassFolders

ANNOTATIONS, IMAGES = "val_annotations.txt", "images"


def is_annotated(folder: Path) -> bool:
    """True if a validation folder has Tiny-ImageNet's layout."""
    return (folder / ANNOTATIONS).is_file() and (folder / IMAGES).is_dir()


def read_annotated(folder: Path) -> ClassFolders:
    """Returns the validation images by class, classes and files in the order of their names.

    Raises UserError unless every image has one line in the annotations, and every line an image.
    """
    annotations = folder / ANNOTATIONS
    lines = annotations.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [line.split()[:2] for line in lines if line.strip()]
    if any(len(row) < 2 for row in rows):
        raise UserError(f"{annotations} has a line without a class: extract it again")
    labels = dict(rows)
    images = {path.name: path for path in (folder / IMAGES).iterdir() if path.is_file()}
    # The names that are in one of the two only.
    different = sorted(labels.keys() ^ images.keys())
    if different:
        raise UserError(
            f"{annotations} and {folder / IMAGES} differ in {len(different):,} images, such as "
            f"{different[0]!r}: extract both again"
        )
    classes = {name: [] for name in sorted(set(labels.values()))}
    for name in sorted(images):
        classes[labels[name]].append(images[name])
    return ClassFolders(classes)
