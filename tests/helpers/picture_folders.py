"""Folders of pictures, a grey level for each class, and what prepare makes of them."""

from image_files import plain, png
from prepare_command import refused, run, stored

from alexnet_jax.data import store

SHADES = {"ant": 20, "bee": 90, "cat": 160, "dog": 230}  # grey level of the pictures of each class


def shade(name, seed=0):
    return png(plain(24, 24, SHADES[name] + seed))


def of_classes(*names, count=2):
    """One split: {class: {file name: bytes}}."""
    return {name: {f"{i}.png": shade(name, i) for i in range(count)} for name in names}


def prepare(source, *more):
    """Prepares a folder beside itself, as raw images; returns the store's folder."""
    directory = source.with_name("store")
    run("--name=folder", f"--source={source}", f"--dir={directory}", "--encoding=raw", *more)
    return directory


def refuses(message, source, *more):
    directory = source.with_name("store")
    refused(message, "--name=folder", f"--source={source}", f"--dir={directory}", *more)
    assert not directory.exists()


def classes_of(directory, split="train"):
    """The grey levels that are stored under each class name."""
    names = store.open_store(directory).class_names
    images, labels = stored(directory, split)
    levels = {name: [] for name in names}
    for image, label in zip(images, labels, strict=True):
        levels[names[label]].append(int(image[0, 0, 0]))
    return levels
