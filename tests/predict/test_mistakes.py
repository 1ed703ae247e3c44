"""A user's mistakes in predict and explain: each is named, and nothing is written."""

import numpy as np
import pytest
from commands import TOP, error_line, in_process, run
from image_files import picture, png

from alexnet_jax.convert import write_workdir
from alexnet_jax.errors import UserError
from alexnet_jax.explain import __main__ as explain
from alexnet_jax.predict import __main__ as predict
from alexnet_jax.predict.request import read_labels
from configs.base import get_config

NET = TOP / "results" / "nets" / "digits"
PICTURE = ("--checkpoint={run}", "--images={test}")
BAD = (
    ("predict", ("--images=x.png",), "--checkpoint is missing"),
    ("predict", ("--checkpoint={run}",), "--images is missing"),
    ("predict", ("--checkpoint=nowhere", "--images={test}"), "no checkpoint in nowhere"),
    ("predict", ("--checkpoint={run}", "--images=nowhere"), "--images=nowhere: no pictures"),
    ("predict", ("--checkpoint={run}", "--images={test}", "--top=0"), "--top=0"),
    ("predict", ("--checkpoint={run}", "--images={test}", "--batch_size=0"), "--batch_size=0"),
    ("predict", ("--checkpoint={run}", "--images={test}", "--views=5"), "--views=5"),
    ("predict", ("--checkpoint={run}", "--images={test}", "--neighbours=3"), "--gallery"),
    ("predict", ("--checkpoint={run}", "--images={test}", "--gallery={test}"), "--neighbours"),
    ("predict", ("--checkpoint={run}", "--images={test}", "--output=x.txt"), ".jsonl or .csv"),
    (
        "predict",
        ("--checkpoint={run}", "--images={test}", "--output=no/x.csv"),
        "folder that exists",
    ),
    ("predict", ("--checkpoint={run}", "--images={test}", "--sheet=x.gif"), ".png"),
    ("predict", ("--checkpoint={run}", "--images={test}", "--features=fc7"), "--output=FILE.npz"),
    (
        "predict",
        ("--checkpoint={run}", "--images={test}", "--features=fc9", "--output=x.npz"),
        "--features=fc9 is no layer of this net; choose from conv1, norm1, pool1",
    ),
    (
        "predict",
        ("--checkpoint={run}", "--images={test}", "--features=fc7", "--output=x.csv"),
        ".npz",
    ),
    (
        "predict",
        ("--checkpoint={run}", "--images={test}", "--features=fc7", "--output=x.npz", "--views=10"),
        "--views=10",
    ),
    (
        "predict",
        (
            "--checkpoint={run}",
            "--images={test}",
            "--features=fc7",
            "--output=x.npz",
            "--sheet=x.png",
        ),
        "--sheet",
    ),
    (
        "predict",
        ("--checkpoint={run}", "--images={test}", "--labels={two}"),
        "2 lines, but the net",
    ),
    ("predict", ("--checkpoint={run}", "--images={test}", "--labels=gone.txt"), "cannot be read"),
    ("explain", ("--checkpoint={run}", "--images={test}"), "--sheet is missing"),
    ("explain", ("--checkpoint={run}", "--sheet=x.png"), "--images is missing"),
    (
        "explain",
        ("--checkpoint={run}", "--images={test}", "--sheet=x.png", "--methods=lime"),
        "--methods=lime is unknown; choose from saliency",
    ),
    (
        "explain",
        ("--checkpoint={run}", "--images={test}", "--sheet=x.png", "--layer=fc7"),
        "--layer=fc7 has no maps",
    ),
    (
        "explain",
        ("--checkpoint={run}", "--images={test}", "--sheet=x.png", "--units=1"),
        "--units",
    ),
    (
        "explain",
        ("--checkpoint={run}", "--layer=conv1", "--sheet=x.png", "--units=12"),
        "--units=12 is no unit of conv1; give numbers from 0 to 11",
    ),
    (
        "explain",
        ("--checkpoint={run}", "--layer=conv1", "--sheet=x.png", "--methods=saliency"),
        "--methods is for --images; leave it out",
    ),
    (
        "explain",
        (*PICTURE, "--sheet=x.png", "--layer=conv1", "--methods=saliency,occlusion"),
        "--layer is for gradcam and deconv, and --methods has neither; leave it out",
    ),
    (
        "predict",
        (*PICTURE, "--features=fc7", "--output=x.npz", "--top=3"),
        "--top is for classes, not for features; leave it out",
    ),
    (
        "predict",
        (*PICTURE, "--gallery={test}", "--neighbours=1", "--top=3"),
        "--top is for classes, not for neighbours; leave it out",
    ),
)


@pytest.mark.parametrize(("module", "arguments", "message"), BAD)
def test_a_mistake_is_named(tmp_path, monkeypatch, module, arguments, message):
    (tmp_path / "two.txt").write_text("a\nb\n")
    (tmp_path / "photo.png").write_bytes(png(picture(20, 20)))
    places = {"run": NET, "test": "photo.png", "two": "two.txt"}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as mistake:
        in_process({"predict": predict, "explain": explain}[module], *(
            argument.format(**places) for argument in arguments
        ))  # fmt: skip
    assert message in str(mistake.value)
    assert {path.name for path in tmp_path.iterdir()} == {"two.txt", "photo.png"}


def test_not_one_readable_picture_is_an_error_and_nothing_is_written(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    where = (f"--checkpoint={NET}", f"--images={tmp_path}")
    with pytest.raises(UserError, match=r"1 of 1 .*text.png is no JPEG"):
        in_process(predict, *where, f"--output={tmp_path / 'out.csv'}")
    with pytest.raises(UserError, match=r"none of .*text.png is no JPEG"):
        in_process(explain, *where, f"--sheet={tmp_path / 'out.png'}")
    assert [path.name for path in tmp_path.iterdir()] == ["text.png"]


def test_a_mistake_is_told_before_anything_is_loaded(tmp_path):
    for module in ("predict", "explain"):
        done = run(module, f"--checkpoint={tmp_path}", "--images=x", "--sheet=x.png", code=2)
        assert f"no checkpoint in {tmp_path}" in error_line(done)


@pytest.mark.parametrize("module", [predict, explain])
def test_a_sheet_does_not_overwrite_a_picture_that_is_read(module, tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(png(picture(20, 20)))
    (tmp_path / "link.png").symlink_to(photo)
    before = photo.read_bytes()
    with pytest.raises(UserError, match=r"link\.png is one of the pictures to read"):
        in_process(
            module, f"--checkpoint={NET}", f"--images={photo}", f"--sheet={tmp_path / 'link.png'}"
        )
    assert photo.read_bytes() == before


def test_the_mark_that_windows_writes_is_no_part_of_a_name(tmp_path):
    (tmp_path / "names.txt").write_text("cat\r\ndog\r\n", encoding="utf-8-sig")
    assert read_labels(str(tmp_path / "names.txt"), 2) == ("cat", "dog")


@pytest.mark.slow
def test_a_net_without_convolutions_has_no_layer_to_look_at_by_default(tmp_path):
    config = get_config()
    config.model.update(name="four_layer", width=1.0, num_classes=10)
    config.model.without = ("conv1", "conv2", "conv3")
    config.data.input_mean = (0.0, 0.0, 0.0)
    write_workdir(tmp_path / "run", config, {}, np.zeros(3, np.float32))
    (tmp_path / "photo.png").write_bytes(png(picture(20, 20)))
    flags = (f"--checkpoint={tmp_path}/run", f"--images={tmp_path}/photo.png")
    sheet = f"--sheet={tmp_path}/x.png"
    with pytest.raises(UserError, match="this net has no convolution"):
        in_process(explain, *flags, sheet)
    in_process(explain, *flags, sheet, "--methods=saliency")  # it looks at no layer
    assert (tmp_path / "x.png").exists()
