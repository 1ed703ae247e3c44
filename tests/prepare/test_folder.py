"""Folders of pictures as people have them."""

import json
import os
import re
import subprocess
import unicodedata

import numpy as np
import pytest
from commands import command, error_line
from image_files import image_file, jpeg, oriented, picture, plain, png, write_folder
from picture_folders import classes_of, of_classes, prepare, refuses, shade
from prepare_command import printed, refused, stored

from alexnet_jax.data import store
from alexnet_jax.disk.checksums import of_file

# Layouts


@pytest.mark.parametrize("place", ["pictures/store", "pictures/train/store"])
def test_the_store_may_not_lie_among_the_pictures(tmp_path, place):
    """Its folders would be read as classes by the next command."""
    source = write_folder(tmp_path / "pictures", {"train": of_classes("ant", "bee")})
    words = ("--name=folder", f"--source={source}", f"--dir={tmp_path / place}")
    refused("lies in --source=", *words)
    assert not (tmp_path / place).exists()


def test_a_line_break_in_the_name_of_a_class_is_refused(tmp_path):
    """labels.txt has one name a line."""
    classes = {**of_classes("ant"), "b\nee": of_classes("bee")["bee"]}
    source = write_folder(tmp_path / "pictures", {"train": classes})
    refuses(r"class folder 'b\\nee' has a line break in its name: rename it", source)


def test_a_pipe_that_is_called_like_a_picture_is_not_waited_for(tmp_path):
    source = write_folder(tmp_path / "pictures", {"train": of_classes("ant", "bee")})
    os.mkfifo(source / "train" / "ant" / "pipe.jpg")
    assert classes_of(prepare(source)) == {"ant": [20, 21], "bee": [90, 91]}


def test_hidden_folders_are_no_classes(tmp_path):
    hidden = (".ipynb_checkpoints", ".git", "@eaDir", "__MACOSX", "#recycle")
    content = of_classes("ant", "bee") | {name: of_classes("cat")["cat"] for name in hidden}
    content["ant"] = content["ant"] | {"._0.png": b"resource fork", "@eaDir/0.png": shade("cat")}
    source = write_folder(tmp_path / "pictures", {"train": content, ".git": of_classes("cat")})
    assert classes_of(prepare(source)) == {"ant": [20, 21], "bee": [90, 91]}


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "Valid"])
def test_other_names_of_the_validation_folder(tmp_path, name, capsys):
    content = {"train": of_classes("ant", "bee"), name: of_classes("ant", "bee", count=1)}
    source = write_folder(tmp_path / "pictures", content)
    assert classes_of(prepare(source), "val") == {"ant": [20], "bee": [90]}
    said = f"{source}: {name} is read as val\n" in printed(capsys)
    assert said == (name != "val")


@pytest.mark.parametrize("names", [("val", "valid"), ("validation", "dev"), ("Val", "val")])
def test_two_validation_folders_are_an_error(tmp_path, names):
    content = dict.fromkeys(("train", *names), of_classes("ant", "bee"))
    source = write_folder(tmp_path / "pictures", content)
    first, second = sorted(names)
    refuses(f"{source} has {first} and {second}, which are both val: leave one", source)


def test_training_and_testing(tmp_path):
    """As a public data set of fruit has it."""
    content = {"Training": of_classes("ant", "bee"), "Testing": of_classes("bee")}
    directory = prepare(write_folder(tmp_path / "pictures", content))
    assert store.open_store(directory).sizes == {"train": 4, "test": 2}


def test_other_folders_beside_the_splits_are_named(tmp_path, capsys):
    content = {"train": of_classes("ant", "bee"), "holdout": of_classes("ant")}
    source = write_folder(tmp_path / "pictures", content)
    prepare(source)
    assert f"{source}: folders that are not read: holdout\n" in printed(capsys)


def test_class_folders_without_splits_are_the_training_set(tmp_path, capsys):
    source = write_folder(tmp_path, {"pictures": of_classes("ant", "bee", "cat")}) / "pictures"
    directory = prepare(source)
    assert classes_of(directory) == {"ant": [20, 21], "bee": [90, 91], "cat": [160, 161]}
    assert store.open_store(directory).sizes == {"train": 6}
    line = "no folder `train`: its folders ant, bee, cat are read as training classes"
    assert f"{source}: {line}\n" in printed(capsys)


def test_sub_folders_of_a_class_are_walked(tmp_path):
    content = of_classes("ant", "bee")
    content["ant"] |= {"2019/may/2.png": shade("ant", 2), "2019/.thumbs/3.png": shade("ant", 3)}
    directory = prepare(write_folder(tmp_path / "pictures", {"train": content}))
    assert classes_of(directory) == {"ant": [20, 21, 22], "bee": [90, 91]}


def test_linked_folders_are_read_and_endless_ones_refused(tmp_path):
    source = write_folder(tmp_path / "pictures", {"train": of_classes("ant", "bee")})
    write_folder(tmp_path / "elsewhere", {"x": of_classes("cat")})
    (source / "train" / "cat").symlink_to(tmp_path / "elsewhere" / "x" / "cat")
    assert classes_of(prepare(source))["cat"] == [160, 161]
    other = write_folder(tmp_path / "more" / "pictures", {"train": of_classes("ant", "bee")})
    (other / "train" / "ant" / "again").symlink_to(other / "train")
    refuses(f"again/ant is the same folder as {other}/train/ant, above it: remove the", other)


def test_flat_images_need_class_folders(tmp_path):
    source = write_folder(tmp_path / "pictures", {"train": of_classes("ant", "bee")})
    (source / "val").mkdir()
    for i in range(3):
        (source / "val" / f"{i}.JPEG").write_bytes(jpeg(picture(24, 24)))
    refuses(rf"{source}/val holds 3 images, but no class folders: .* val/CLASS/\*\.jpg", source)
    (source / "val").rename(source / "test")
    refuses(rf"{source}/test holds 3 images, .* or move the folder away if there are no", source)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"val": of_classes("ant", "bee")}, "has no folder `train` beside val: sort"),
        ({"photos": {}, "more": {}}, "has no folder `train`: sort the images as train/CLASS"),
        ({"flowers": of_classes("ant", "bee")}, "or give --source=.*pictures/flowers if the cl"),
        (
            {"training_set": of_classes("ant", "bee"), "test_set": of_classes("ant", "bee")},
            "(training|test)_set seems to hold a split, not a class: call it train, val or test",
        ),
    ],
)
def test_a_folder_that_is_not_understood(tmp_path, content, message):
    source = tmp_path / "pictures"
    for name in content:
        (source / name).mkdir(parents=True)
    write_folder(source, content)
    refuses(message, source)


def test_loose_images_without_any_folder(tmp_path):
    source = tmp_path / "pictures"
    source.mkdir()
    (source / "1.jpg").write_bytes(jpeg(picture(24, 24)))
    refuses("no folder `train`, but 1 image without a class: sort the images", source)
    refuses("1.jpg is no folder: give one with train/CLASS", source / "1.jpg")


# Files


SUFFIXES = ["jpg", "jpeg", "jpe", "jfif", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"]


def test_every_suffix_of_torchvision_is_read(tmp_path):
    content = of_classes("ant", "bee")
    content["ant"] = {}
    for i, suffix in enumerate(SUFFIXES):
        file = image_file(plain(24, 24, 20 + i), suffix)
        content["ant"] |= {f"{i:02}.{suffix}": file, f"{i:02}.{suffix.upper()}": file}
    directory = prepare(write_folder(tmp_path / "pictures", {"train": content}))
    expected = [20 + i for i in range(len(SUFFIXES)) for _ in (0, 1)]
    assert classes_of(directory)["ant"] == pytest.approx(expected, abs=1)


def test_other_files_are_counted_and_named_in_one_line(tmp_path, capsys):
    content = of_classes("ant", "bee")
    content["ant"] |= {"notes.txt": b"", "a.gif": b"", "b.GIF": b"", "README": b""}
    source = write_folder(tmp_path / "pictures", {"train": content})
    (source / "train" / "loose.png").write_bytes(shade("ant"))
    prepare(source)
    (said,) = (x for x in printed(capsys).splitlines() if "not read" in x)
    kinds = "2 .gif, 1 without a suffix, 1 .txt, 1 image outside the class folders"
    assert said == f"{source}: files that are not read: {kinds}"


@pytest.mark.parametrize("place", ["train/cat", "val"])
def test_a_class_or_a_split_that_is_a_link_to_nothing_is_named(tmp_path, place):
    """As of a drive that is not mounted: it would be left out."""
    source = write_folder(tmp_path / "pictures", {"train": of_classes("ant", "bee")})
    (source / place).symlink_to("/no/drive")
    refuses(f"{source}/{place} is a link to /no/drive, which is missing: mend it", source)


@pytest.mark.parametrize("split", ["test", "Train", "validation"])
def test_splits_inside_the_classes_are_not_mixed(tmp_path, split):
    """CLASS/test/*.jpg, as some data sets have it, would be trained on."""
    content = {"ant": of_classes("ant"), "bee": {"train": of_classes("bee")["bee"]}}
    content["bee"][split] = content["bee"].pop("train")
    source = write_folder(tmp_path / "pictures", content)
    words = rf"{source}/bee holds {split.lower()}, which seem to be splits: .* or give --source="
    refuses(words, source)


def test_a_class_whose_files_are_of_other_kinds_says_of_which(tmp_path):
    """A phone's HEIC files would otherwise be called no images."""
    content = of_classes("ant", "bee")
    content["bee"] = {f"{i}.HEIC": b"" for i in range(3)} | {"notes.txt": b""}
    source = write_folder(tmp_path / "pictures", {"train": content})
    refuses(r"train/bee has no images, only 3 \.heic, 1 \.txt: put some there \(\.jpg", source)
    content = {"photos": {"ant": {"0.heic": b""}, "bee": {"0.heic": b""}}}
    source = write_folder(tmp_path / "more", content) / "photos"
    refuses("has no folder `train` and no images, only 2 .heic: sort the images", source)
    content = {"train": of_classes("ant", "bee"), "val": {"ant": {"0.avif": b""}}}
    refuses("val has no images, only 1 .avif: put", write_folder(tmp_path / "x" / "y", content))


def test_a_link_to_nothing_is_named(tmp_path):
    source = write_folder(tmp_path / "pictures", {"train": of_classes("ant", "bee")})
    (source / "train" / "ant" / "gone.jpg").symlink_to("nowhere.jpg")
    refuses(r"ant/gone\.jpg cannot be read \(No such file or directory\)", source)


def test_a_picture_that_vanishes_meanwhile_is_named(tmp_path, monkeypatch):
    source = write_folder(tmp_path / "pictures", {"train": of_classes("ant", "bee")})
    victim = source / "train" / "bee" / "1.png"
    from alexnet_jax.prepare import store_writer

    begin = store_writer.begin
    monkeypatch.setattr(store_writer, "begin", lambda *x: (victim.unlink(), begin(*x)))
    directory = source.with_name("store")
    arguments = ["--name=folder", f"--source={source}", f"--dir={directory}"]
    refused(r"train/bee/1\.png cannot be read \(No such file", *arguments)


def test_photographs_are_stored_upright(tmp_path):
    """As a phone writes them: the pixels lie on their side, and a number says how."""
    upright = picture(80, 60)
    content = {"ant": {}, "bee": {"0.png": png(upright)}}
    for orientation in range(1, 9):
        for kind in ("jpeg", "png", "webp", "tiff"):
            name = f"{orientation}.{kind}"
            content["ant"][name] = oriented(upright, orientation, kind)
    source = write_folder(tmp_path / "pictures", {"train": content})
    images, labels = stored(prepare(source, "--image_size=48"), "train")
    (expected,) = images[labels == 1]
    assert (labels == 0).sum() == 32
    assert np.abs(images[labels == 0].astype(int) - expected).max() <= 12


LATIN1 = b"caf\xe9"


def test_names_that_are_not_utf8_are_read_as_latin1(tmp_path):
    """In every place: the source, a class, a sub-folder, a file; with a broken one among them."""
    source = tmp_path / os.fsdecode(LATIN1)
    write_folder(source, {"train": of_classes("bee")})
    folder = source / "train" / os.fsdecode(LATIN1)
    (folder / os.fsdecode(LATIN1)).mkdir(parents=True)
    (folder / os.fsdecode(LATIN1 + b".png")).write_bytes(shade("ant"))
    (folder / os.fsdecode(LATIN1) / "1.png").write_bytes(shade("ant", 1))
    (folder / os.fsdecode(b"\xe4.png")).write_bytes(shade("ant")[:60])
    directory = source.with_name(os.fsdecode(b"st\xf6re"))
    arguments = ["--name=folder", "--source", os.fsencode(source), "--dir", os.fsencode(directory)]
    done = subprocess.run(
        [*command("prepare"), *arguments, "--on_bad_image=skip"], capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert "störe: train 4 images".encode() in done.stdout.replace(b"\n  ", b" ")
    dataset = store.open_store(directory)
    assert dataset.class_names == ("bee", "café")
    assert dataset.source == f"{tmp_path}/café"
    assert (directory / "labels.txt").read_text() == "bee\ncafé\n"
    manifest = json.loads((directory / "manifest.json").read_text())
    assert [x["name"] for x in manifest["skipped"]["train"]] == ["train/café/ä.png"]
    assert subprocess.run([*command("prepare"), *arguments], capture_output=True).returncode == 0


def test_a_class_of_macos_and_of_another_system_are_the_same(tmp_path):
    """macOS writes é as two characters; the classes looked equal and were refused."""
    ants, bees = of_classes("ant", "bee").values()
    of_mac = unicodedata.normalize("NFD", "café")
    assert of_mac != "café"
    content = {"train": {"bee": bees, "café": ants}, "test": {"bee": bees, of_mac: ants}}
    directory = prepare(write_folder(tmp_path / "pictures", content))
    assert classes_of(directory, "test") == classes_of(directory)
    assert store.open_store(directory).class_names == ("bee", "café")


def test_two_classes_of_one_name_are_refused(tmp_path):
    source = write_folder(tmp_path / "pictures", {"train": of_classes("ant", "bee")})
    for name in (LATIN1, unicodedata.normalize("NFD", "café").encode()):
        folder = source / "train" / os.fsdecode(name)
        folder.mkdir()
        (folder / "1.png").write_bytes(shade("cat"))
    refuses("has two folders of the name 'café': rename one", source)


# Layouts that were right before


def test_stores_are_the_same_to_the_bit(tmp_path):
    """Recorded when TensorFlow decoded the images; renew only for a change of the pixels.

    From PNGs of random numbers, which are the same with every version of the libraries.
    """

    def noise(height, width, seed):
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    cats = {"1.png": png(noise(40, 50, 1)), "2.PNG": png(noise(60, 40, 2))}
    dogs = {"a.png": png(noise(45, 45, 3)), "b.png": png(noise(33, 80, 4), "L")}
    content = {
        "train": {"dog": dogs, "cat": cats},
        "val": {"cat": {"x.png": cats["1.png"]}},
        "test": {"dog": {"y.png": dogs["b.png"]}},
    }
    directory = prepare(write_folder(tmp_path / "pictures", content), "--image_size=32")
    found = {
        name: of_file(directory / name)["sha256"][:16]
        for name in ("labels.txt", "mean_image.npy", "train/labels.npy", "train/images.npy")
    }
    assert found == {
        "labels.txt": "f641fdcd8af73b2f",
        "mean_image.npy": "e8ab430d6730f0e7",
        "train/labels.npy": "527b77d6f7826e34",
        "train/images.npy": "8664c3b24021d298",
    }
    assert of_file(directory / "val/images.npy")["sha256"].startswith("76c29d93fd57a739")
    assert of_file(directory / "test/images.npy")["sha256"].startswith("02e23676c0f99b53")


# The terminal


def test_libraries_do_not_write_into_the_progress_bars(tmp_path):
    """Broken files of each kind: libjpeg, libpng, libtiff and Pillow have something to say."""
    content = of_classes("ant", "bee")
    content["ant"] |= noisy_files()
    source = write_folder(tmp_path / "pictures", {"train": content})
    arguments = [f"--source={source}", f"--dir={tmp_path / 'store'}", "--on_bad_image=skip"]
    done = subprocess.run(
        command("prepare", "--name=folder", "--image_size=16", *arguments),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for line in done.stderr.replace("\r", "\n").splitlines():
        assert re.fullmatch(r"(train|checksums): +\d+%\|[^|]*\| \d+/\d+ \[[^]]*\]|", line), line


def test_an_error_after_the_bars_is_still_one_line(tmp_path):
    content = of_classes("ant", "bee")
    content["ant"]["cut.tif"] = noisy_files()["cut.tif"]
    source = write_folder(tmp_path / "pictures", {"train": content})
    arguments = [f"--source={source}", f"--dir={tmp_path / 'store'}", "--image_size=16"]
    done = subprocess.run(
        command("prepare", "--name=folder", *arguments), capture_output=True, text=True
    )
    assert done.returncode == 2
    done.stderr = done.stderr.splitlines()[-1] + "\n"  # after the bar
    assert "train/ant/cut.tif cannot be decoded" in error_line(done)


def noisy_files():
    """Image files that make the libraries print something, broken or not."""
    tiff = bytearray(image_file(picture(40, 60), "tif", compression="tiff_lzw"))
    tiff[300:320] = b"\xff" * 20
    photograph = jpeg(picture(40, 60))
    with_exif = photograph[:2] + b"\xff\xe1\x00\x20Exif\0\0II*\0" + b"\xff" * 20 + photograph[2:]
    palette = image_file(picture(40, 60), "png", mode="P", transparency=bytes(range(256)))
    return {
        "cut.tif": bytes(tiff),
        "cut.jpg": photograph[:500],
        "stuffed.jpg": photograph[:-2] + bytes(20) + photograph[-2:],
        "exif.jpg": with_exif,
        "palette.png": palette,
    }
