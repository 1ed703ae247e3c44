"""Tiny-ImageNet, as its makers pack it."""

import pytest
from image_files import write_folder
from picture_folders import SHADES, classes_of, prepare, refuses, shade
from prepare_command import printed

from alexnet_jax.data import store


def tiny_imagenet(root):
    train = {name: {f"images/{name}_{i}.JPEG": shade(name, i) for i in range(2)} for name in SHADES}
    for name, files in train.items():
        files[f"{name}_boxes.txt"] = b"0 0 9 9"
    images = {"val_0.JPEG": "dog", "val_1.JPEG": "ant", "val_10.JPEG": "ant", "val_2.JPEG": "bee"}
    val = {"images": {name: shade(label) for name, label in images.items()}}
    test = {"images": {"test_0.JPEG": shade("cat")}}
    source = write_folder(root, {"train": train, "val": val, "test": test})
    lines = (f"{name}\t{label}\t0\t32\t44\t62\n" for name, label in images.items())
    (source / "val" / "val_annotations.txt").write_text("".join(lines))
    return source


def test_tiny_imagenet_is_read_as_its_makers_pack_it(tmp_path, capsys):
    source = tiny_imagenet(tmp_path / "pictures")
    directory = prepare(source)
    assert classes_of(directory) == {name: [x, x + 1] for name, x in SHADES.items()}
    assert classes_of(directory, "val") == {"ant": [20, 20], "bee": [90], "cat": [], "dog": [230]}
    assert store.open_store(directory).sizes == {"train": 8, "val": 4}
    said = printed(capsys)
    assert f"{source}: files that are not read: 4 .txt\n" in said
    assert f"{source}: test is not read: it has no labels\n" in said


def test_tiny_imagenet_is_the_same_from_class_folders(tmp_path):
    """Sorted by hand, as the data set had to be before."""
    given = prepare(tiny_imagenet(tmp_path / "given" / "pictures"))
    source = tiny_imagenet(tmp_path / "sorted" / "pictures")
    for line in (source / "val" / "val_annotations.txt").read_text().splitlines():
        name, label = line.split("\t")[:2]
        (source / "val" / label).mkdir(exist_ok=True)
        (source / "val" / "images" / name).rename(source / "val" / label / name)
    (source / "val" / "images").rmdir()
    (source / "val" / "val_annotations.txt").unlink()
    (source / "test" / "images" / "test_0.JPEG").unlink()
    (source / "test" / "images").rmdir()
    (source / "test").rmdir()
    by_hand = prepare(source)
    assert store.open_store(given).checksum == store.open_store(by_hand).checksum


@pytest.mark.parametrize("change", ["image missing", "image added", "class unknown", "cut line"])
def test_annotations_that_do_not_fit_are_refused(tmp_path, change):
    source = tiny_imagenet(tmp_path / "pictures")
    annotations = source / "val" / "val_annotations.txt"
    message = "val_annotations.txt and .*images differ in 1 images, such as 'val_2.JPEG'"
    if change == "image missing":
        (source / "val" / "images" / "val_2.JPEG").unlink()
    elif change == "image added":
        lines = annotations.read_text().splitlines(keepends=True)
        annotations.write_text("".join(x for x in lines if "val_2." not in x))
    elif change == "class unknown":
        annotations.write_text(annotations.read_text().replace("bee", "cow"))
        message = "class 'cow' is in .*val but not in train"
    else:
        annotations.write_text(annotations.read_text() + "val_3")
        message = "val_annotations.txt has a line without a class"
    refuses(message, source)
