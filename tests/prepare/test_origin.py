"""A store knows what it was made from, and `prepare` compares that with what it is asked for."""

import json
import os

import numpy as np
import pytest
from image_files import jpeg, picture, plain, png, write_folder, write_imagenet
from prepare_command import printed, refused, run, stored

from alexnet_jax import data
from alexnet_jax.data import store
from alexnet_jax.errors import UserError
from alexnet_jax.prepare.lock import LOCK, only_preparation
from configs import base

DARK, LIGHT = plain(24, 24, 20), plain(24, 24, 200)


def two_classes(first="ant", second="bee", **val):
    """Dark pictures in one class, light ones in the other."""
    dark = {f"{i}.png": png(DARK) for i in range(3)}
    light = {f"{i}.png": png(LIGHT) for i in range(2)}
    return {"train": {first: dark, second: light}, "val": {first: {"x.png": png(DARK)} | val}}


def folder(source, directory, *more):
    return ["--name=folder", f"--source={source}", f"--dir={directory}", *more]


def manifest_of(directory):
    return json.loads((directory / "manifest.json").read_text())


def without_origin(directory):
    """Makes a store as it was written before origin and names of images were recorded."""
    manifest = manifest_of(directory)
    del manifest["origin"]
    for split in manifest["counts"]:
        del manifest["files"][f"{split}/names.json"]
        (directory / split / "names.json").unlink()
    manifest["sha256"] = store.digest_of(manifest)
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    (directory / "manifest.json").write_text(text)


@pytest.fixture
def prepared(tmp_path):
    """A folder of pictures and its store."""
    source = write_folder(tmp_path / "pictures", two_classes())
    run(*folder(source, tmp_path / "store"))
    return source, tmp_path / "store"


def test_a_second_command_is_refused_while_the_first_one_writes(tmp_path):
    """It would remove files of the first one, which then reports a store that is damaged."""
    source = write_folder(tmp_path / "pictures", two_classes())
    with only_preparation(tmp_path / "store"):
        refused("another command is writing the store", *folder(source, tmp_path / "store"))
    assert not (tmp_path / "store").exists()
    run(*folder(source, tmp_path / "store"))
    assert not (tmp_path / "store" / LOCK).exists()


def test_a_lock_that_a_killed_command_left_is_in_nobodys_way(tmp_path):
    source = write_folder(tmp_path / "pictures", two_classes())
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / LOCK).touch()
    run(*folder(source, tmp_path / "store"))
    assert store.is_complete(tmp_path / "store")


def test_the_manifest_records_the_origin(prepared):
    source, directory = prepared
    origin = manifest_of(directory)["origin"]
    assert origin["request"] == {
        "name": "folder",
        "source": str(source),
        "image_size": None,
        "encoding": None,
        "expected_counts": "full",
    }
    assert origin["source"] == str(source)
    assert set(origin["fingerprints"]) == {"train", "val"}
    assert set(origin["versions"]) == {"numpy", "pillow", "tensorflow-datasets"}
    dataset = store.open_store(directory)
    assert dataset.source == str(source) and dataset.class_names == ("ant", "bee")
    assert dataset.sizes == {"train": 5, "val": 1}


def test_another_source_is_refused(prepared, tmp_path):
    source, directory = prepared
    other = write_folder(tmp_path / "other", two_classes("cat", "dog"))
    before = (directory / "manifest.json").read_bytes()
    named = rf"{directory} has source={source}, not {other}: .*another --dir, or remove"
    refused(named, *folder(other, directory))
    refused(f"has source={source}, not {tmp_path}/none", *folder(tmp_path / "none", directory))
    refused(f"has source={source}, not nothing:", "--name=folder", f"--dir={directory}")
    assert (directory / "manifest.json").read_bytes() == before


def test_other_settings_are_refused(prepared):
    source, directory = prepared
    refused("has image_size=None, not 16", *folder(source, directory, "--image_size=16"))
    refused("has encoding=None, not jpeg", *folder(source, directory, "--encoding=jpeg"))


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "rewritten", "class renamed"])
def test_pictures_that_changed_are_noticed(prepared, change):
    source, directory = prepared
    picture = source / "train" / "ant" / "1.png"
    if change == "added":
        picture.with_name("3.png").write_bytes(png(DARK))
    elif change == "removed":
        picture.unlink()
    elif change == "renamed":
        picture.rename(picture.with_name("4.png"))
    elif change == "rewritten":  # to the same size
        picture.write_bytes(picture.read_bytes())
        os.utime(picture, (1, 1))
    else:
        for split in ("train", "val"):
            (source / split / "ant").rename(source / split / "wasp")
    named = f"the files in {source} are not those that the store in {directory} was prepared from"
    refused(named, *folder(source, directory))


def test_the_same_request_is_already_prepared(prepared, monkeypatch, capsys):
    source, directory = prepared
    (source / "train" / "ant" / "notes.txt").write_text("not a picture")
    monkeypatch.chdir(source.parent)
    assert run(*folder("./pictures/", directory)) == 0
    assert "already prepared: folder" in capsys.readouterr().out
    source.rename(source.with_name("archived"))  # nothing contradicts what is not there
    assert run(*folder(source, directory)) == 0


def test_classes_renamed_while_half_done_get_their_own_labels(tmp_path):
    """The first run finishes `train` and stops at a broken validation picture."""
    content = two_classes(**{"broken.png": png(picture(24, 24))[:200]})
    source, directory = write_folder(tmp_path / "pictures", content), tmp_path / "store"
    refused("broken.png", *folder(source, directory))
    for split in ("train", "val"):
        (source / split / "ant").rename(source / split / "wasp")
    (source / "val" / "wasp" / "broken.png").write_bytes(png(DARK))
    run(*folder(source, directory))
    assert store.open_store(directory).class_names == ("bee", "wasp")
    images, labels = stored(directory, "train")
    np.testing.assert_array_equal(images[:, 0, 0, 0] < 100, labels == 1)  # wasps are dark
    assert list(labels) == [0, 0, 1, 1, 1]


def test_pictures_moved_while_half_done_are_read_again(tmp_path):
    content = two_classes(**{"broken.png": png(picture(24, 24))[:200]})
    source, directory = write_folder(tmp_path / "pictures", content), tmp_path / "store"
    refused("broken.png", *folder(source, directory))
    (source / "train" / "ant" / "0.png").rename(source / "train" / "bee" / "9.png")
    (source / "val" / "ant" / "broken.png").unlink()
    run(*folder(source, directory))
    images, labels = stored(directory, "train")
    assert list(labels) == [0, 0, 1, 1, 1]
    assert list(images[:, 0, 0, 0]) == [20, 20, 200, 200, 20]


def test_a_size_that_changes_while_half_done_is_that_of_every_split(tmp_path):
    """At first all pictures are of 24 pixels and stay so; the mended one is larger."""
    content = two_classes(**{"broken.png": png(picture(24, 24))[:200]})
    source, directory = write_folder(tmp_path / "pictures", content), tmp_path / "store"
    refused("broken.png", *folder(source, directory))
    assert (directory / "train" / "images.npy").is_file()
    (source / "val" / "ant" / "broken.png").write_bytes(png(picture(40, 50)))
    run(*folder(source, directory))
    assert not (directory / "train" / "images.npy").exists()
    assert stored(directory, "train")[0].shape == (5, 256, 256, 3)
    assert stored(directory, "val")[0].shape == (2, 256, 256, 3)


def test_a_split_removed_while_half_done_is_gone(tmp_path):
    content = two_classes()
    content["test"] = {"ant": {"broken.png": png(picture(24, 24))[:200]}}
    source, directory = write_folder(tmp_path / "pictures", content), tmp_path / "store"
    refused("broken.png", *folder(source, directory))
    (source / "val").rename(source.parent / "aside")
    (source / "test" / "ant" / "broken.png").write_bytes(png(DARK))
    run(*folder(source, directory))
    assert not (directory / "val").exists()
    assert store.open_store(directory).sizes == {"train": 5, "test": 1}


def test_another_source_while_half_done_is_refused(tmp_path):
    content = two_classes(**{"broken.png": png(picture(24, 24))[:200]})
    source, directory = write_folder(tmp_path / "pictures", content), tmp_path / "store"
    refused("broken.png", *folder(source, directory))
    other = write_folder(tmp_path / "other", two_classes())
    refused(f"was begun with source={source}, not {other}", *folder(other, directory))


def test_the_checksum_is_that_of_the_content(tmp_path):
    """The same pictures in another place are the same data, as a run compares it."""
    sums = []
    for name in ("one", "two"):
        source = write_folder(tmp_path / name, two_classes())
        run(*folder(source, tmp_path / f"store_{name}"))
        sums.append(store.open_store(tmp_path / f"store_{name}").checksum)
    assert sums[0] == sums[1]


def test_a_renamed_picture_is_the_same_data(tmp_path):
    source = write_folder(tmp_path / "pictures", two_classes())
    run(*folder(source, tmp_path / "one"))
    (source / "val" / "ant" / "x.png").rename(source / "val" / "ant" / "café 1.png")
    run(*folder(source, tmp_path / "two"))
    one, two = (store.open_store(tmp_path / name) for name in ("one", "two"))
    assert one.checksum == two.checksum
    assert store.image_names(one.splits["val"]) == ["val/ant/x.png"]
    assert store.image_names(two.splits["val"]) == ["val/ant/café 1.png"]


def test_a_half_done_store_of_an_earlier_version_gets_its_names(tmp_path):
    content = two_classes(**{"broken.png": png(picture(24, 24))[:200]})
    source, directory = write_folder(tmp_path / "pictures", content), tmp_path / "store"
    refused("broken.png", *folder(source, directory))
    (directory / "train" / "names.json").unlink()
    (source / "val" / "ant" / "broken.png").unlink()
    run(*folder(source, directory))
    assert store.image_names(store.open_store(directory).splits["train"])[0] == "train/ant/0.png"


def test_images_that_are_held_out_keep_their_names(tmp_path):
    """Also where an image between them was left out because it is broken."""
    pictures = two_classes()["train"]
    pictures["ant"]["1.png"] = png(picture(24, 24))[:200]
    source = write_folder(tmp_path / "pictures", {"train": pictures})
    run(*folder(source, tmp_path / "store", "--on_bad_image=skip"))
    config = base.get_config().data
    config.update(name="folder", dir=str(tmp_path / "store"), image_size=24, crop_size=24)
    config.val_fraction = 0.5
    splits = data.open_dataset(config).splits
    names = ["train/ant/0.png", "train/ant/2.png", "train/bee/0.png", "train/bee/1.png"]
    for split in (splits["train"], splits["val"]):
        assert store.image_names(split) == [names[row] for row in split.rows]
    assert len(splits["train"]) == len(splits["val"]) == 2


def test_changed_names_are_noticed_when_the_store_is_opened(prepared):
    names = prepared[1] / "val" / "names.json"
    names.write_text(names.read_text().replace("x.png", "y.png"))
    with pytest.raises(UserError, match=r"names\.json has been changed"):
        store.open_store(prepared[1])


def test_a_store_without_an_origin_is_read_as_ever(prepared, capsys):
    source, directory = prepared
    checksum = store.open_store(directory).checksum
    without_origin(directory)
    config = base.get_config().data
    config.update(name="folder", dir=str(directory), image_size=24, crop_size=24)
    dataset = data.open_dataset(config)
    assert dataset.source == "" and dataset.checksum == checksum
    assert store.image_names(dataset.splits["train"]) == ["0", "1", "2", "3", "4"]
    assert store.of_file(directory / "manifest.json")["sha256"] == checksum  # as older runs have it
    assert run(*folder(source, directory)) == 0
    assert "already prepared" in (out := printed(capsys)) and "source was not recorded" in out
    refused("has image_size=24, not 32", *folder(source, directory, "--image_size=32"))


# ILSVRC-2012 and other sources

WNIDS = ("n01440764", "n02105855")


def imagenet(tmp_path, *more):
    source, directory = tmp_path / "tars", tmp_path / "store"
    arguments = [f"--source={source}", f"--dir={directory}", "--expected_counts=any", *more]
    return ["--name=imagenet2012", *arguments]


@pytest.mark.slow
def test_other_tar_files_are_noticed(tmp_path):
    pictures = [jpeg(plain(60, 60, level)) for level in (20, 120, 220)]
    write_imagenet(tmp_path / "tars", dict.fromkeys(WNIDS, pictures[:1]), pictures[:2])
    run(*imagenet(tmp_path))
    assert store.open_store(tmp_path / "store").source == "TensorFlow Datasets imagenet2012/5.1.0"
    assert run(*imagenet(tmp_path)) == 0
    write_imagenet(tmp_path / "tars", dict.fromkeys(WNIDS, pictures[:1]), pictures)
    refused("the files in .*tars are not those", *imagenet(tmp_path))
    for tar in (tmp_path / "tars").iterdir():
        tar.unlink()
    assert run(*imagenet(tmp_path)) == 0  # to make room


@pytest.mark.slow
def test_tar_files_that_change_while_half_done_are_read_again(tmp_path):
    good, bad = jpeg(plain(60, 60, 120)), jpeg(plain(60, 60, 120))[:300]
    write_imagenet(tmp_path / "tars", {wnid: [good] for wnid in WNIDS}, [bad])
    refused(r"val_00000001\.JPEG", *imagenet(tmp_path))
    write_imagenet(tmp_path / "tars", {wnid: [good, good] for wnid in WNIDS}, [good, good])
    run(*imagenet(tmp_path))
    assert store.open_store(tmp_path / "store").sizes == {"train": 4, "val": 2}
