"""The commands predict and explain on a folder of pictures, a trained net and its evaluation."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import TOP, in_process, run
from image_files import image_file, jpeg, png
from PIL import Image

import alexnet_jax
from alexnet_jax import export, main
from alexnet_jax.explain import __main__ as explain
from alexnet_jax.predict import __main__ as predict
from alexnet_jax.prepare import __main__ as prepare

CLASSES = ("blue", "green", "red")
NET = (
    "--config=configs/base.py",
    "--config.data.name=folder",
    "--config.model.width=0.0625",
    "--config.model.dropout=0.0",
    "--config.data.batch_size=24",
    "--config.optim.learning_rate=0.05",
    "--config.train.steps=30",
)


@dataclass(frozen=True)
class Trained:
    """A folder of pictures, its store, and a net that was trained on it."""

    pictures: Path
    store: Path
    workdir: Path


def coloured(rng, label, height, width):
    """Noise in which one colour is brighter than the others, more or less."""
    pixels = rng.integers(0, 150, (height // 4, width // 4, 3))
    pixels[..., 2 - label] += rng.integers(20, 105)
    return np.asarray(Image.fromarray(np.uint8(pixels)).resize((width, height)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("trained"), np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 6)):
        for label, name in enumerate(CLASSES):
            (folder / "pictures" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = coloured(rng, label, 80 + 4 * (i % 3), 100 - 8 * (i % 2))
                path = folder / "pictures" / split / name / f"{i}.{('png', 'jpg')[i % 2]}"
                path.write_bytes((png, jpeg)[i % 2](pixels))
    store = prepared(folder / "pictures", folder / "store", "raw")
    run("main", *NET, f"--config.data.dir={store}", f"--workdir={folder / 'run'}")
    return Trained(folder / "pictures", store, folder / "run")


def prepared(pictures, store, encoding):
    in_process(
        prepare, "--name=folder", f"--source={pictures}", f"--dir={store}",
        "--image_size=72", f"--encoding={encoding}",
    )  # fmt: skip
    return store


def evaluated(trained, store, tmp_path, views=1):
    """The probabilities of the test pictures by main --mode=eval, float32 [18, 3]."""
    in_process(
        main, "--config=configs/base.py", "--mode=eval", "--config.data.name=folder",
        f"--checkpoint={trained.workdir}", f"--config.data.dir={store}", "--config.eval.split=test",
        f"--config.eval.views={views}", f"--workdir={tmp_path}",
        f"--probabilities={tmp_path / f'{views}.npz'}", with_config=True,
    )  # fmt: skip
    with np.load(tmp_path / f"{views}.npz") as file:
        return file["probabilities"]


def predicted(trained, tmp_path, *flags):
    """The rows that predict writes about the test pictures."""
    in_process(
        predict, f"--checkpoint={trained.workdir}", f"--images={trained.pictures / 'test'}",
        f"--output={tmp_path / 'out.jsonl'}", *flags,
    )  # fmt: skip
    return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]


def as_array(rows):
    """Probabilities in the order of the classes, [N, 3]."""
    return np.array(
        [[row["probabilities"][row["classes"].index(name)] for name in CLASSES] for row in rows]
    )


# --- classes ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("views", [1, 10])
def test_probabilities_are_those_of_evaluation(trained, tmp_path, views):
    expected = evaluated(trained, trained.store, tmp_path, views)
    rows = predicted(trained, tmp_path, f"--views={views}", "--batch_size=7")
    files = sorted((trained.pictures / "test").glob("*/*"))
    assert [row["path"] for row in rows] == list(map(str, files))
    assert all(row["probabilities"] == sorted(row["probabilities"])[::-1] for row in rows)
    np.testing.assert_allclose(as_array(rows), expected, atol=1e-5, rtol=0)
    assert np.ptp(expected, axis=0).min() > 0.05  # they are not the same for all


@pytest.mark.slow
def test_an_exported_folder_gives_the_same_rows(trained, tmp_path):
    in_process(export, f"--checkpoint={trained.workdir}", f"--to={tmp_path / 'hub'}")
    flags = (f"--images={trained.pictures / 'test'}", f"--output={tmp_path / 'hub.jsonl'}")
    in_process(predict, f"--checkpoint={tmp_path / 'hub'}", *flags)
    rows = [json.loads(line) for line in (tmp_path / "hub.jsonl").read_text().splitlines()]
    assert rows == predicted(trained, tmp_path)


@pytest.mark.slow
def test_a_jpeg_store_costs_no_more_than_its_compression(trained, tmp_path):
    store = prepared(trained.pictures, tmp_path / "store", "jpeg")
    expected = evaluated(trained, store, tmp_path)
    difference = np.abs(as_array(predicted(trained, tmp_path)) - expected).max()
    assert 0 < difference < 0.05


@pytest.mark.slow
def test_the_command_reports_a_bad_picture_in_its_row_and_goes_on(trained, tmp_path):
    good = sorted((trained.pictures / "test" / "red").iterdir())[:2]
    (tmp_path / "text.png").write_text("no picture")
    places = ",".join(map(str, (good[0], tmp_path / "text.png", good[1])))
    flags = (f"--checkpoint={trained.workdir}", f"--images={places}", "--top=2")
    lines = run("predict", *flags).stdout.splitlines()
    assert lines[0].split() == ["picture", "class", "%"] and max(map(len, lines)) <= 80
    assert [line.split()[1] for line in lines[1:3]] != [], lines
    assert sum("text.png" in line and "error" in line for line in lines) == 1
    assert len(lines) >= 1 + 2 + 1 + 2 + 1
    assert lines[-1] == "1 of 3 pictures could not be read"


@pytest.mark.slow
def test_a_sheet_and_a_csv_with_other_names_for_the_classes(trained, tmp_path, capsys):
    labels = tmp_path / "labels.txt"
    labels.write_text("blau\ngrün\nrot\n")
    in_process(
        predict, f"--checkpoint={trained.workdir}", f"--images={trained.pictures / 'test'}",
        f"--labels={labels}", f"--output={tmp_path / 'out.csv'}",
        f"--sheet={tmp_path / 'sheet.png'}",
    )  # fmt: skip
    header, first, *_ = (tmp_path / "out.csv").read_text().splitlines()
    assert header == "path,class_1,probability_1,class_2,probability_2,class_3,probability_3,error"
    assert set(first.split(",")[1:7:2]) == {"blau", "grün", "rot"}
    assert_drawn(tmp_path / "sheet.png")
    assert f"drawn: {tmp_path / 'sheet.png'}" in capsys.readouterr().out


def assert_drawn(path):
    """A PNG that is no blank page."""
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float32)
    assert min(pixels.shape[:2]) > 300
    assert pixels.std() > 20


# --- features and neighbours -----------------------------------------------------------------


@pytest.mark.slow
def test_features_are_the_endpoints_of_the_loaded_net(trained, tmp_path):
    in_process(
        predict, f"--checkpoint={trained.workdir}", f"--images={trained.pictures / 'test'}",
        "--features=conv2", f"--output={tmp_path / 'f.npz'}", "--batch_size=5",
    )  # fmt: skip
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        features, paths, names = file["features"], file["paths"], file["class_names"]
    assert tuple(names) == CLASSES
    model, variables, _ = alexnet_jax.load(trained.workdir)
    stored = np.load(trained.store / "test" / "images.npy")
    mean, scale = (np.asarray(variables["input"][key]) for key in ("mean", "scale"))
    crops = (stored[:, 4:68, 4:68] - mean) * scale
    params = {"params": variables["params"]}
    expected = jax.jit(lambda x: model.apply(params, x)[1]["conv2"])(crops)
    assert len(paths) == len(stored) == 18
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_nearest_picture_of_a_copy_is_its_original(trained, tmp_path):
    held_out = trained.pictures / "test"
    copy = tmp_path / "copy.png"
    copy.write_bytes((held_out / "green" / "2.png").read_bytes())
    in_process(
        predict, f"--checkpoint={trained.workdir}", f"--images={copy},{held_out / 'red' / '0.png'}",
        f"--gallery={held_out}", "--neighbours=3", f"--output={tmp_path / 'near.jsonl'}",
        f"--sheet={tmp_path / 'near.png'}",
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "near.jsonl").read_text().splitlines()]
    assert [len(row["neighbours"]) for row in rows] == [3, 3]
    assert rows[0]["neighbours"][0] == str(held_out / "green" / "2.png")
    assert rows[0]["distances"][0] < 1e-3 < rows[0]["distances"][1]
    assert str(held_out / "red" / "0.png") not in rows[1]["neighbours"]
    assert_drawn(tmp_path / "near.png")


@pytest.mark.slow
def test_a_picture_whose_name_is_not_utf_8_is_drawn_and_named(trained, tmp_path):
    folder, other = tmp_path / "pictures", trained.pictures / "test" / "red" / "0.png"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(other.read_bytes())
    outputs = (f"--output={tmp_path / 'out.jsonl'}", f"--sheet={tmp_path / 'sheet.png'}")
    in_process(predict, f"--checkpoint={trained.workdir}", f"--images={folder}", *outputs)
    assert json.loads((tmp_path / "out.jsonl").read_text())["path"] == str(folder / "café.png")
    assert_drawn(tmp_path / "sheet.png")
    in_process(
        predict, f"--checkpoint={trained.workdir}", f"--images={other}", f"--gallery={folder}",
        "--neighbours=1", *outputs,
    )  # fmt: skip
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row["neighbours"] == [str(folder / "café.png")]
    assert_drawn(tmp_path / "sheet.png")


# --- explanations ----------------------------------------------------------------------------


@pytest.mark.slow
def test_explain_draws_pictures_and_says_what_it_leaves_out(trained, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no picture")
    images = f"{trained.pictures / 'test' / 'red' / '0.png'},{tmp_path / 'text.png'}"
    sheet = f"--sheet={tmp_path / 'explained.png'}"
    in_process(explain, f"--checkpoint={trained.workdir}", f"--images={images}", sheet)
    assert f"left out: {tmp_path / 'text.png'} is no JPEG" in capsys.readouterr().out
    assert_drawn(tmp_path / "explained.png")


@pytest.mark.slow
def test_explain_draws_what_excites_units(trained, tmp_path):
    in_process(
        explain, f"--checkpoint={trained.workdir}", "--layer=fc8", "--units=2,0",
        f"--sheet={tmp_path / 'units.png'}",
    )  # fmt: skip
    assert_drawn(tmp_path / "units.png")


# --- output ----------------------------------------------------------------------------------


def test_libraries_print_nothing_beside_the_table(tmp_path, capfd):
    """libtiff speaks of a broken file without its name, and Pillow warns of a palette."""
    pixels = coloured(np.random.default_rng(0), 0, 80, 100)
    broken = bytearray(image_file(pixels, "tif", compression="tiff_lzw"))
    broken[300:320] = b"\xff" * 20
    (tmp_path / "broken.tif").write_bytes(broken)
    palette = image_file(pixels, "png", mode="P", transparency=bytes(range(256)))
    (tmp_path / "palette.png").write_bytes(palette)
    net = TOP / "results" / "nets" / "digits"
    in_process(predict, f"--checkpoint={net}", f"--images={tmp_path}")
    printed = capfd.readouterr()
    assert printed.err == ""
    assert "1 of 2 pictures could not be read" in printed.out
