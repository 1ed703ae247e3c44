import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from image_files import jpeg, oriented, picture, plain, png, tar, write_folder, write_imagenet
from PIL import Image
from prepare_command import refused, run, stored

from alexnet_jax import data
from alexnet_jax.data import store
from alexnet_jax.errors import UserError
from alexnet_jax.prepare import disk_space
from configs import base

RED, GREEN, BLUE = (200, 30, 40), (20, 180, 60), (50, 60, 220)


def two_classes(**more):
    """A folder's content: two images in each of two classes, and more."""
    cats = {"1.jpg": jpeg(picture(40, 50, 1)), "2.JPEG": jpeg(picture(60, 40, 2))}
    dogs = {"a.png": png(picture(45, 45, 3)), "b.jpeg": jpeg(picture(33, 80, 4), "L")}
    return {"train": {"dog": dogs, "cat": cats | more}, "val": {"cat": {"x.jpg": cats["1.jpg"]}}}


def test_a_folder_end_to_end_and_again(tmp_path, capsys):
    source = write_folder(tmp_path / "pictures", two_classes())
    (source / "train" / "cat" / "notes.txt").write_text("not an image")
    arguments = ["--name=folder", f"--source={source}", f"--dir={tmp_path / 'store'}"]
    arguments += ["--image_size=32", "--encoding=raw"]
    assert run(*arguments) == 0
    images, labels = stored(tmp_path / "store", "train")
    assert list(labels) == [0, 0, 1, 1]  # cat before dog
    for image, original in zip(images, [picture(40, 50, 1), picture(60, 40, 2)], strict=False):
        assert np.abs(image.astype(int) - shrunk(original, 32)).max() <= 4
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert manifest["class_names"] == ["cat", "dog"]
    assert manifest["counts"] == {"train": 4, "val": 1} and manifest["skipped"] == {}
    expected = images.astype(np.float64).mean(0)
    np.testing.assert_allclose(np.load(tmp_path / "store" / "mean_image.npy"), expected, rtol=1e-6)
    names = {str(x.relative_to(tmp_path / "store")) for x in (tmp_path / "store").rglob("*.*")}
    assert names == {*manifest["files"], "manifest.json"}
    assert run(*arguments) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "already prepared" in printed
    flags = f"--config.data.dir={tmp_path / 'store'} --config.data.image_size=32"
    assert f"give main --config.data.name=folder {flags}" in printed


def shrunk(original, side):
    """Shorter side to `side`, then the centre, by Pillow."""
    factor = side / min(original.shape[:2])
    width, height = round(original.shape[1] * factor), round(original.shape[0] * factor)
    image = Image.fromarray(original).resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)), int)


def test_jpeg_is_the_default_and_close(tmp_path):
    source = write_folder(tmp_path / "pictures", two_classes())
    run("--name=folder", f"--source={source}", f"--dir={tmp_path / 'store'}")
    assert (tmp_path / "store" / "train" / "images.array_record").is_file()
    images, _ = stored(tmp_path / "store", "val")
    assert images.shape == (1, 256, 256, 3)
    assert np.abs(images[0] - shrunk(picture(40, 50, 1), 256)).mean() < 3


def test_small_images_of_one_size_stay_as_they_are(tmp_path):
    originals = [picture(24, 24, seed) for seed in range(4)]
    files = [{"1.png": png(x)} for x in originals]
    content = {"train": {"a": files[0], "b": files[1]}, "test": {"a": files[2], "b": files[3]}}
    source = write_folder(tmp_path / "pictures", content)
    run("--name=folder", f"--source={source}", f"--dir={tmp_path / 'store'}")
    for split, expected in (("train", originals[:2]), ("test", originals[2:])):
        np.testing.assert_array_equal(stored(tmp_path / "store", split)[0], expected)
    arguments = [f"--dir={tmp_path / 'larger'}", "--image_size=48"]
    run("--name=folder", f"--source={source}", *arguments)
    assert stored(tmp_path / "larger", "train")[0].shape == (2, 48, 48, 3)


def test_grey_cmyk_and_a_png_called_jpeg_are_read_rightly(tmp_path):
    original = picture(40, 40, 5)
    files = {"cmyk": jpeg(original, "CMYK"), "grey": jpeg(original, "L"), "png": png(original)}
    files = {f"{name}.JPEG": content for name, content in files.items()}
    source = write_folder(tmp_path / "pictures", two_classes(**files))
    arguments = [f"--dir={tmp_path / 'store'}", "--image_size=40", "--encoding=raw"]
    run("--name=folder", f"--source={source}", *arguments)
    images = stored(tmp_path / "store", "train")[0].astype(int)
    cmyk, grey, whole = images[2:5]  # after 1.jpg and 2.JPEG
    assert np.abs(cmyk - original).max() <= 8
    assert np.abs(grey - (original @ [0.299, 0.587, 0.114])[..., None]).max() <= 4
    np.testing.assert_array_equal(whole, original)


def test_a_truncated_image_stops_or_is_left_out(tmp_path):
    cut = jpeg(picture(40, 40))[:500]
    source = write_folder(tmp_path / "pictures", two_classes(**{"cut.jpg": cut}))
    arguments = ["--name=folder", f"--source={source}", f"--dir={tmp_path / 'store'}"]
    refused(r"cat/cut\.jpg cannot be decoded.*truncated.*--on_bad_image=skip", *arguments)
    config = base.get_config().data
    config.update(name="folder", dir=str(tmp_path / "store"), image_size=256)
    with pytest.raises(UserError, match="half-written"):
        data.check_available(config)
    run(*arguments, "--on_bad_image=skip")
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert manifest["counts"] == {"train": 4, "val": 1}
    (left_out,) = manifest["skipped"]["train"]
    assert left_out["name"] == "train/cat/cut.jpg" and "truncated" in left_out["fault"]
    assert list(stored(tmp_path / "store", "train")[1]) == [0, 0, 1, 1]


def test_text_called_jpg_is_named_before_anything_is_written(tmp_path):
    source = write_folder(tmp_path / "pictures", two_classes(**{"text.jpg": b"hello\n"}))
    arguments = ["--name=folder", f"--source={source}", f"--dir={tmp_path / 'store'}"]
    refused(r"text\.jpg is no JPEG, PNG, .* or PPM file: remove it", *arguments)
    assert not (tmp_path / "store").exists()
    run(*arguments, "--on_bad_image=skip")
    assert len(store.open_store(tmp_path / "store").splits["train"]) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("train"), "no folder `train`"),
        (lambda c: c["train"].pop("dog"), "has 1 class folders"),
        (lambda c: c["train"].update(bird={}), "bird has no images"),
        (lambda c: c["val"].update(bird={"1.png": png(picture(9, 9))}), "'bird' is in .*val but"),
        (lambda c: c.update(test={"cat": {}}), "test has no images"),
    ],
)
def test_a_folder_that_is_not_a_data_set(tmp_path, change, message):
    content = two_classes()
    change(content)
    source = write_folder(tmp_path / "pictures", content)
    refused(message, "--name=folder", f"--source={source}", f"--dir={tmp_path / 'store'}")
    assert not (tmp_path / "store").exists()


def test_images_of_several_sizes_cannot_stay_as_they_are(tmp_path):
    source = write_folder(tmp_path / "pictures", two_classes())
    arguments = ["--name=folder", f"--source={source}", f"--dir={tmp_path / 'store'}"]
    refused("not all squares of one size", *arguments, "--image_size=0")


def test_a_stopped_run_is_taken_up_again(tmp_path):
    content = two_classes()
    content["val"]["dog"] = {"bad.jpg": jpeg(picture(40, 40))[:500]}
    source = write_folder(tmp_path / "pictures", content)
    arguments = ["--name=folder", f"--source={source}", f"--dir={tmp_path / 'store'}"]
    refused("bad.jpg", *arguments)
    refused("begun with image_size=None, not 64", *arguments, "--image_size=64")
    images = tmp_path / "store" / "train" / "images.array_record"
    written = images.stat().st_mtime_ns
    (source / "val" / "dog" / "bad.jpg").write_bytes(jpeg(picture(40, 40)))
    run(*arguments)
    assert images.stat().st_mtime_ns == written
    run("--name=folder", f"--source={source}", f"--dir={tmp_path / 'whole'}")
    whole, again = (store.open_store(tmp_path / name).checksum for name in ("whole", "store"))
    assert whole == again


def test_flags_that_cannot_be_right(tmp_path):
    there = f"--dir={tmp_path / 'store'}"
    refused("--name is missing", there)
    refused("needs no preparation", "--name=digits", there)
    refused("unknown data set 'nonesuch'", "--name=nonesuch", there)
    refused("does not exist", "--name=folder", "--source=nowhere", there)
    refused("--source is missing", "--name=folder", there)
    refused("--source is missing.*img_val.tar", "--name=imagenet2012", there)
    refused("image-classification", "--name=imdb_reviews", there)
    refused("image_size=-1", "--name=cifar10", "--image_size=-1")
    refused("encoding", "--name=cifar10", "--encoding=gif")
    (tmp_path / "file").write_text("something of the user's")
    refused("not empty", "--name=cifar10", f"--dir={tmp_path}")
    refused("is a file", "--name=cifar10", f"--dir={tmp_path / 'file'}")
    assert not (tmp_path / "store").exists()


def test_another_store_in_the_way(tmp_path):
    source = write_folder(tmp_path / "pictures", two_classes())
    there = f"--dir={tmp_path / 'store'}"
    run("--name=folder", f"--source={source}", there, "--image_size=16")
    refused("has name=folder, not cifar10", "--name=cifar10", there)
    refused("has image_size=16, not 32", "--name=folder", there, "--image_size=32")


def test_a_folder_that_cannot_be_made(tmp_path):
    source = write_folder(tmp_path / "pictures", two_classes())
    (tmp_path / "file").write_text("in the way")
    there = f"--dir={tmp_path / 'file' / 'store'}"
    refused("cannot be written", "--name=folder", f"--source={source}", there)


def test_a_full_disk_is_seen_beforehand(tmp_path):
    with pytest.raises(UserError, match=r"needs about 1000000\.0 GB"):
        disk_space.check_disk(tmp_path / "not" / "there", 10**15)


def test_the_command_ends_with_code_2_and_one_line(tmp_path):
    arguments = ["-m", "alexnet_jax.prepare", "--name=imagenet2012", f"--source={tmp_path}"]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "ILSVRC2012_img_train.tar is missing" in done.stderr


# ILSVRC-2012


LYING = np.concatenate([plain(50, 25, GREEN), plain(50, 25, RED)], axis=1)  # upright: red right
TRAIN = {
    "n01440764": [jpeg(plain(60, 80, RED)), jpeg(plain(70, 50, RED))],
    "n02105855": [oriented(LYING, 6, "jpg")],
    "n15075141": [png(plain(60, 45, BLUE)), jpeg(plain(64, 64, BLUE))],
}
VAL = [jpeg(plain(60, 60, colour)) for colour in (GREEN, BLUE, RED)]


def imagenet(tmp_path, *more):
    source, target = tmp_path / "tars", tmp_path / "store"
    return ["--name=imagenet2012", f"--source={source}", f"--dir={target}", *more]


def test_imagenet_through_tfds(tmp_path):
    write_imagenet(tmp_path / "tars", TRAIN, VAL)
    refused(r"holds 3 classes instead of 1,000", *imagenet(tmp_path))
    assert not (tmp_path / "store").exists()
    run(*imagenet(tmp_path, "--expected_counts=any"))
    images, labels = stored(tmp_path / "store", "train")
    assert images.shape == (5, 256, 256, 3)
    colours = {0: RED, 999: BLUE}  # by the order of the synset numbers
    assert sorted(labels) == [0, 0, 230, 999, 999]
    for image, label in zip(images, labels, strict=True):
        if label == 230:  # as the file has it, in spite of its EXIF orientation: red above
            assert np.abs(image[:100].astype(int) - RED).max() <= 8
            assert np.abs(image[-100:].astype(int) - GREEN).max() <= 8
        else:
            assert np.abs(image.astype(int) - colours[int(label)]).max() <= 4
    images, labels = stored(tmp_path / "store", "val")
    # The classes of the first three validation images: n01751748, n09193705, n02105855.
    known = {65: GREEN, 970: BLUE, 230: RED}
    for image, label in zip(images, labels, strict=True):
        assert np.abs(image.astype(int) - known.pop(int(label))).max() <= 4
    names = store.open_store(tmp_path / "store").class_names
    assert len(names) == 1000 and names[0] == "n01440764" and names[65] == "n01751748"
    assert not (tmp_path / "store" / "scratch").exists()


def test_imagenet_goes_on_after_tfds(tmp_path):
    bad = jpeg(plain(60, 60, RED))[:300]
    write_imagenet(tmp_path / "tars", TRAIN, [VAL[0], bad, VAL[2]])
    refused(
        r"val image ILSVRC2012_val_00000002\.JPEG cannot",
        *imagenet(tmp_path, "--expected_counts=any"),
    )
    for path in (tmp_path / "tars").iterdir():  # other content that looks the same is never read
        found = path.stat()
        path.write_bytes(bytes(found.st_size))
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    arguments = imagenet(tmp_path, "--expected_counts=any", "--on_bad_image=skip")
    run(*arguments)
    dataset = store.open_store(tmp_path / "store")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 5, "val": 2}


@pytest.mark.parametrize("name", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"])
@pytest.mark.parametrize("damage", ["missing", "cut", "cut between members", "text"])
def test_a_tar_file_that_is_not_whole(tmp_path, name, damage):
    path = write_imagenet(tmp_path / "tars", TRAIN, VAL) / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
        message = f"{name} is missing"
    else:
        message = f"{name}.* is truncated or no tar file"
        last = content.rindex(b"n15075141.tar" if "train" in name else b"ILSVRC2012_val_00000003")
        ends = {"cut": last + 1000, "cut between members": last}
        path.write_bytes(content[: ends[damage]] if damage in ends else b"text\n" * 1000)
    refused(message, *imagenet(tmp_path, "--expected_counts=any"))
    assert not (tmp_path / "store").exists()


def test_an_inner_tar_that_is_cut(tmp_path):
    write_imagenet(tmp_path / "tars", TRAIN, VAL)
    inner = tar({"n01440764_1.JPEG": TRAIN["n01440764"][0]})
    (tmp_path / "tars" / "ILSVRC2012_img_train.tar").write_bytes(
        tar({"n01440764.tar": inner[:700]})
    )
    refused(r"n01440764\.tar is truncated", *imagenet(tmp_path, "--expected_counts=any"))


def test_an_unknown_class(tmp_path):
    write_imagenet(tmp_path / "tars", TRAIN | {"n00000001": TRAIN["n01440764"]}, VAL)
    refused(r"n00000001\.tar', which is no class", *imagenet(tmp_path, "--expected_counts=any"))


def test_a_gap_in_the_validation_names(tmp_path):
    source = write_imagenet(tmp_path / "tars", TRAIN, VAL)
    files = {f"ILSVRC2012_val_{number:08d}.JPEG": VAL[0] for number in (1, 2, 4)}
    (source / "ILSVRC2012_img_val.tar").write_bytes(tar(files))
    message = r"'ILSVRC2012_val_00000004.JPEG' where ILSVRC2012_val_00000003.JPEG should be"
    refused(message, *imagenet(tmp_path, "--expected_counts=any"))


def test_no_validation_image(tmp_path):
    write_imagenet(tmp_path / "tars", TRAIN, [])
    refused("holds 0 validation images", *imagenet(tmp_path, "--expected_counts=any"))


# Any other data set of TFDS


class TinyGrey(tfds.core.GeneratorBasedBuilder):
    """Grey images; the test split has no labels and one split is of no use here."""

    VERSION = tfds.core.Version("1.0.0")
    SIZES = {"train": 6, "extra": 1, "test": 2}  # noqa: RUF012

    def _info(self):
        label = tfds.features.ClassLabel(names=["dark", "light"])
        image = tfds.features.Image(shape=(12, 12, 1), encoding_format="png")
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.SIZES}

    def _generate_examples(self, split):
        for index in range(self.SIZES[split]):
            image = np.full((12, 12, 1), 40 + 100 * (index % 2) + index, np.uint8)
            yield index, {"image": image, "label": -1 if split == "test" else index % 2}


def test_any_tfds_data_set(tmp_path):
    run("--name=tiny_grey", f"--dir={tmp_path / 'store'}")
    opened = store.open_store(tmp_path / "store")
    assert opened.class_names == ("dark", "light") and set(opened.splits) == {"train"}
    images, labels = stored(tmp_path / "store", "train")
    assert images.shape == (6, 12, 12, 3)
    assert sorted(images[:, 0, 0, 0]) == [40, 42, 44, 141, 143, 145]
    np.testing.assert_array_equal(images[:, 5, 5, 2] > 100, labels == 1)


def test_what_tfds_cannot_prepare(tmp_path, monkeypatch):
    def no_network(self, dl_manager):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(TinyGrey, "_split_generators", no_network)
    refused("cannot prepare tiny_grey: no route to host", "--name=tiny_grey", f"--dir={tmp_path}")


class Unreachable(TinyGrey):
    """Of a server that does not answer."""

    url_infos = {"https://127.0.0.1:9/images.tar.gz": None}  # noqa: RUF012


def test_a_server_that_cannot_be_reached_is_named_at_once(tmp_path):
    """Not after minutes of tries, and nothing is written: --source is another request."""
    began = time.monotonic()
    named = "127.0.0.1 cannot be reached, from which TFDS downloads unreachable: .* as --source"
    refused(named, "--name=unreachable", f"--dir={tmp_path / 'store'}")
    assert time.monotonic() - began < 30
    assert not (tmp_path / "store").exists()
