"""The queue of launch/evidence.py: records, what is skipped, what needs other runs first."""

import json
import subprocess
import sys

import claims
import evidence
import numpy as np
import pytest
from claims import Ensemble, Run
from commands import SMALL, TOP
from tiny_imagenet_stores import Store, link_pictures, read_tiny_imagenet

import alexnet_jax
from alexnet_jax.data import open_dataset
from alexnet_jax.errors import UserError
from alexnet_jax.prepare.originals.folder_layout import read_layout
from configs import base

SHORT = {key.removeprefix("--config."): value for key, value in (x.split("=") for x in SMALL[1:])}


def queue(*arguments, code=0):
    """Runs launch/evidence.py and returns its last line."""
    words = [sys.executable, "launch/evidence.py", *arguments]
    done = subprocess.run(words, cwd=TOP, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return (done.stdout + done.stderr).splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--claim=digits,moon",), "--claim=moon is unknown; choose from digits,"),
        (("--jobs=0",), "--jobs=0 has to be 1 or more"),
        (("--claim=cifar10", "--data=none"), "there is no store none/cifar10; see docs/data.md"),
        (("--tiny_imagenet=gone",), "--tiny_imagenet=gone: gone is no folder"),
        (("--tiny_imagenet=docs",), "--tiny_imagenet=docs: docs has no folder `train`"),
        (("--claim=ablations", "--data=none"), "none/tiny64; give --tiny_imagenet to prepare it"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path):
    line = queue(*arguments, f"--output={tmp_path}", f"--work={tmp_path}", code=2)
    assert line.startswith("error: ") and message in line


@pytest.mark.slow
def test_records_hold_what_was_run(monkeypatch, tmp_path):
    """Two runs, one that starts from the first, one that diverges, and an ensemble."""
    config = "configs/base.py"
    settings = {**SHORT, "train.steps": 2}
    made = [
        Ensemble("claim", "both", ("one", "two"), views=(1,)),
        Run("claim", "tuned", config, "", settings, (1,), starts_from="one"),
        Run("claim", "one", config, "", settings, (1, 10), kernels=True),
        Run("claim", "two", config, "", {**settings, "seed": 1}, (1,)),
        Run(
            "claim", "wild", config, "", {**settings, "optim.learning_rate": 1e9, "train.steps": 9}
        ),
    ]
    monkeypatch.setitem(claims.CLAIMS, "claim", lambda: iter(made))
    monkeypatch.chdir(TOP)
    folders = evidence.Folders(tmp_path / "data", tmp_path / "work", tmp_path / "results")
    evidence.make_claim("claim", folders, "", jobs=2)
    found = {
        path.parent.name: json.loads(path.read_text())
        for path in (tmp_path / "results" / "claim").glob("*/run.json")
    }
    assert found.keys() == {"one", "two", "tuned", "wild", "both"}
    assert [found[x]["diverged"] for x in ("one", "two", "tuned", "wild")] == [False] * 3 + [True]
    both = found["both"]
    assert both["1_views"]["members"] == 2 and both["machine"] == found["one"]["machine"]
    members = "--checkpoint=runs/evidence/claim/one,runs/evidence/claim/two"
    assert both["command"] == f"python -m alexnet_jax.main --mode=eval {members}"
    assert "--config.init_from=runs/evidence/claim/one" in found["tuned"]["command"]
    assert found["two"]["seed"] == 1 and found["one"]["machine"]["devices"].startswith("1 × cpu")
    labels = np.asarray(open_dataset(base.get_config().data).splits["test"].labels)
    for views in (1, 10):
        with np.load(tmp_path / f"results/claim/one/predictions_{views}_views.npz") as arrays:
            best = arrays["top5"]
        wrong = float((best[:, 0] != labels).mean())
        assert wrong == pytest.approx(found["one"][f"{views}_views"]["test/top1_error"])
    _, variables, _ = alexnet_jax.load(tmp_path / "work/claim/one")
    with np.load(tmp_path / "results/claim/one/kernels.npz") as arrays:
        trained = np.float16(variables["params"]["conv1"]["kernel"])
        np.testing.assert_array_equal(arrays["conv1"], trained)
    assert not (tmp_path / "results/claim/two/kernels.npz").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*")}
    evidence.make_claim("claim", folders, "", jobs=2)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*")}


def test_thinned_metrics_keep_epochs_validations_and_every_100th_step():
    lines = [
        {"step": 50, "train/loss": 1.0},
        {"step": 90, "train/loss": 1.0, "train/epoch_loss": 2.0},
        {"step": 95, "val/loss": 1.0},
        {"step": 100, "train/loss": 1.0},
    ]
    kept = [json.loads(x)["step"] for x in evidence.thinned(map(json.dumps, lines), 100)]
    assert kept == [90, 95, 100]


def test_the_metrics_of_a_long_run_keep_one_step_in_a_thousand():
    lines = [json.dumps({"step": step, "train/loss": 1.0}) for step in range(100, 1_000_000, 100)]
    kept = [json.loads(line)["step"] for line in evidence.shortened(lines)]
    assert kept == list(range(1000, 1_000_000, 1000))
    assert evidence.shortened(lines[:100]) == lines[:100]


def test_links_are_those_of_the_chosen_classes_and_pictures(tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for name in "abcd":
            (tmp_path / "all" / split / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / "all" / split / name / f"{i}.png").touch()
    store = Store(slice(1, None, 2), pictures=1)
    link_pictures(read_layout(tmp_path / "all").splits, tmp_path / "some", store)
    found = sorted(
        str(x.relative_to(tmp_path / "some")) for x in (tmp_path / "some").rglob("*.png")
    )
    assert found == [f"test/{c}/{i}.png" for c in "bd" for i in (0, 1)] + [
        "train/b/0.png",
        "train/d/0.png",
    ]


def tiny_imagenet(folder, makers):
    """A folder of Tiny-ImageNet, as its makers pack it or with a folder a class in test."""
    names = [f"n{i:08}" for i in range(200)]
    annotations = []
    for i, name in enumerate(names):
        train = folder / "train" / name / "images" if makers else folder / "train" / name
        test = folder / "val" / "images" if makers else folder / "test" / name
        for place, count in ((train, 2), (test, 1)):
            place.mkdir(parents=True, exist_ok=True)
            for j in range(count):
                (place / f"{i}_{j}.JPEG").touch()
        (folder / "train" / name / f"{name}_boxes.txt").touch()
        annotations.append(f"{i}_0.JPEG\t{name}\t0\t0\t9\t9\n")
    if makers:
        (folder / "val" / "val_annotations.txt").write_text("".join(annotations))
        (folder / "test" / "images").mkdir(parents=True)
        (folder / "test" / "images" / "test_0.JPEG").touch()
    return folder


@pytest.mark.parametrize("makers", [True, False])
def test_a_store_has_as_many_pictures_of_a_class_as_it_says(tmp_path, makers):
    """The makers keep pictures in a folder beside a text file, and the labelled ones in val."""
    splits = read_tiny_imagenet(str(tiny_imagenet(tmp_path / "all", makers)))
    link_pictures(splits, tmp_path / "some", Store(pictures=1))
    found = {split: list((tmp_path / "some" / split).glob("*/*.JPEG")) for split in splits}
    assert {split: len(paths) for split, paths in found.items()} == {"train": 200, "test": 200}
    assert all(path.resolve().is_file() for paths in found.values() for path in paths)


def test_the_fastest_rate_is_that_of_the_lowest_error_then_of_the_fewest_steps(
    tmp_path,
):
    ends = {3e-4: (0.3, 100), 1e-3: (0.25, 90), 3e-3: (0.24, 80), 1e-2: None, 3e-2: None}
    for rate, end in ends.items():
        folder = tmp_path / "figure1_rates" / f"relu_published_{rate:g}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"diverged": end is None}))
        config = base.get_config()
        config.optim.learning_rate, config.model.num_classes = rate, 10
        (folder / "config.json").write_text(config.to_json())
        error, step = end or (0.0, 1)
        line = {"step": step, "epoch": step / 10, "time": 1.0, "train/epoch_top1_error": error}
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert claims.fastest_rate(tmp_path, "relu", "published") == 3e-3
    for rate in ends:
        folder = tmp_path / "figure1_rates" / f"tanh_published_{rate:g}"
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"diverged": True}))
    with pytest.raises(UserError, match=r"tanh \(published\) diverged at every rate"):
        claims.fastest_rate(tmp_path, "tanh", "published")
    (tmp_path / "figure1_rates" / "relu_published_0.01" / "run.json").unlink()
    with pytest.raises(UserError, match=r"lacks rate 0\.01; first run --claim=figure1_rates"):
        claims.fastest_rate(tmp_path, "relu", "published")


RECORDED = [
    pytest.param(run, id=f"{run.claim}/{run.name}")
    for claim in claims.CLAIMS
    for run in claims.runs(claim, TOP / "results")
    if isinstance(run, Run) and (TOP / "results" / run.claim / run.name / "run.json").is_file()
]


def test_every_record_is_of_a_claim():
    found = {path.parent for path in (TOP / "results").glob("*/*/run.json")}
    of_claims = {
        TOP / "results" / run.claim / run.name
        for claim in claims.CLAIMS
        for run in claims.runs(claim, TOP / "results")
    }
    assert found <= of_claims


@pytest.mark.parametrize("run", RECORDED)
def test_a_record_has_the_settings_of_its_claim(run):
    assert not evidence.other_settings(run, TOP / "results" / run.claim / run.name)


def test_a_record_of_other_settings_is_named(tmp_path, capsys):
    folder = tmp_path / "claim" / "one"
    folder.mkdir(parents=True)
    config = base.get_config()
    config.model.update(width=0.5, num_classes=10)
    config.optim.listed = ((1, 0.1),)
    (folder / "config.json").write_text(config.to_json())
    (folder / "run.json").write_text("{}")
    same = Run("claim", "one", "configs/base.py", "", {"optim.listed": ((1, 0.1),)})
    folders = evidence.Folders(tmp_path, tmp_path, tmp_path)
    assert not evidence.is_missing(same, folders) and not capsys.readouterr().out
    other = Run("claim", "one", "configs/base.py", "", {"model.width": 1.0})
    assert not evidence.is_missing(other, folders)
    line = "is of other settings (model.width: 0.5 → 1.0): delete it to make it again"
    assert line in capsys.readouterr().out
    assert evidence.is_missing(Run("claim", "two", "configs/base.py", ""), folders)


def write_record(folder, record):
    """Writes the record of a run of the quickstart's settings."""
    folder.mkdir(parents=True)
    config = base.get_config()
    config.model.num_classes = 10
    (folder / "config.json").write_text(config.to_json())
    (folder / "run.json").write_text(json.dumps(record))


def test_a_run_whose_checkpoint_a_missing_one_reads_is_made_again_if_it_is_gone(tmp_path):
    names = ("first", "second", "third", "tuned", "both", "wild")
    first, second, third = (Run("claim", x, "configs/base.py", "", views=(1,)) for x in names[:3])
    tuned = Run("claim", "tuned", "configs/base.py", "", starts_from="first")
    both = Ensemble("claim", "both", ("second", "third"), views=(1, 10))
    wild = Run("claim", "wild", "configs/base.py", "", views=(1,))
    claim = [both, tuned, first, second, third, wild]
    folders = evidence.Folders(tmp_path, tmp_path / "work", tmp_path / "results")
    for name in names:
        record = {"1_views": {}} if name != "wild" else {"diverged": True}
        write_record(tmp_path / "results/claim" / name, record)
    # The ensemble lacks its ten views; of its members the third has a checkpoint.
    (tmp_path / "work/claim/third/checkpoints/7").mkdir(parents=True)
    assert evidence.to_make(claim, folders) == [both, second]
    (tmp_path / "results/claim/tuned/run.json").unlink()
    assert evidence.to_make(claim, folders) == [both, tuned, first, second]
    (tmp_path / "results/claim/both/run.json").write_text('{"1_views": {}, "10_views": {}}')
    assert evidence.to_make(claim, folders) == [tuned, first]
