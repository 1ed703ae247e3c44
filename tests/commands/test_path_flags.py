"""Flags that take several paths: how they are divided at commas."""

import json

import pytest
from commands import TOP, in_process
from image_files import picture, png

from alexnet_jax import main
from alexnet_jax.cli import command
from alexnet_jax.explain import __main__ as explain
from alexnet_jax.predict import __main__ as predict
from alexnet_jax.report import __main__ as report


@pytest.mark.parametrize(
    ("module", "flag"),
    [
        (predict, "images"),
        (predict, "gallery"),
        (explain, "images"),
        (report, "workdir"),
        (main, "checkpoint"),
    ],
)
@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ("a,b", ["a", "b"]),
        ("cats, dogs", ["cats, dogs"]),  # it exists
        ("cats, dogs,b", ["cats", "dogs", "b"]),
        ('"cats, dogs",b', ["cats, dogs", "b"]),
        ("a,", ["a,"]),  # it exists
        ("", []),
    ],
)
def test_a_value_that_is_one_existing_path_is_not_divided(
    tmp_path, monkeypatch, module, flag, given, paths
):
    monkeypatch.chdir(tmp_path)
    for name in ("cats, dogs", "a", "a,"):
        (tmp_path / name).mkdir()
    config = (f"--config={TOP / 'configs/base.py'}",) if module is main else ()
    values = command.parse(
        ["command", *config, f"--{flag}={given}"], module.define_flags, with_config=bool(config)
    )
    assert values[flag].value == paths


def test_predict_reads_a_folder_with_a_comma_in_its_name(tmp_path):
    (tmp_path / "cats, dogs").mkdir()
    (tmp_path / "cats, dogs" / "one.png").write_bytes(png(picture(40, 40)))
    in_process(
        predict, f"--checkpoint={TOP / 'results/nets/digits'}", f"--images={tmp_path}/cats, dogs",
        f"--output={tmp_path / 'out.jsonl'}",
    )  # fmt: skip
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row["path"] == str(tmp_path / "cats, dogs" / "one.png") and len(row["classes"]) == 5
