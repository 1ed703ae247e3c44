"""The command from end to end on the digits, and a user's mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import TOP, error_line, run
from stores import write_store

from alexnet_jax.baseline.__main__ import check, define_flags
from alexnet_jax.cli import command
from alexnet_jax.data import open_dataset
from alexnet_jax.errors import UserError

BASE = f"--config={TOP / 'configs' / 'base.py'}"
# The crop of base.py, 64, stays: the images are used in full, and a run's crop is of no account.
DIGITS = (BASE, "--config.data.image_size=16")
LARGER = ("--config.data.image_size=24",)
# Threads that wait for each other cost more than these small products.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
FEW = ("--centres=20", "--patches=2000", "--patch=5")


def labels_of_test():
    values = command.parse(["baseline", *DIGITS], define_flags, with_config=True)
    return np.asarray(open_dataset(values.config.data).splits["test"].labels)


def read(folder, name):
    return json.loads((folder / name).read_text())


@pytest.mark.slow
def test_kmeans_on_the_digits_leaves_a_record_that_agrees_with_itself(tmp_path):
    output = tmp_path / "record"
    done = run(
        "baseline", *DIGITS, *FEW, "--train_images=600", f"--output={output}", env=ONE_THREAD
    )
    result, config = read(output, "result.json"), read(output, "config.json")
    assert result["top1_error"] < 0.15  # chance: 0.9
    assert f"top-1 error {result['top1_error']:.2%}" in done.stdout
    with np.load(output / "predictions.npz") as found:
        right = found["top5"] == labels_of_test()[:, None]
        np.testing.assert_array_equal(found["top1"], found["top5"][:, 0])
        assert found["top5"].dtype == np.uint8
    assert result["top1_error"] == pytest.approx(1 - right[:, 0].mean())
    assert result["top5_error"] == pytest.approx(1 - right.any(1).mean())
    best = min(result["validation"], key=lambda trial: trial["top1_error"])
    assert result["cost"] == best["cost"]
    counts = [result[f"{name}_images"] for name in ("train", "val", "test")]
    assert counts == [600, 144, 359] and result["features"] == 80
    assert result["method"] == "kmeans" and result["dataset"] == "digits"
    assert result["seconds"] > 0 and "--centres=20" in result["command"]
    assert config["flags"]["form"] == {"centres": 20, "patch": 5, "stride": 1, "pool": 2}
    assert config["config"]["data"]["image_size"] == 16
    assert {"jax", "scikit-learn", "scikit-image"} <= set(config["versions"])
    assert sum(path.stat().st_size for path in output.iterdir()) < 300_000


@pytest.mark.parametrize(
    "flags",
    [("--method=hog",), ("--method=fisher", *LARGER, "--gaussians=4")],
    ids=["hog", "fisher"],
)
@pytest.mark.slow
def test_hand_crafted_features_of_the_digits_are_far_from_chance(flags, tmp_path):
    run("baseline", *DIGITS, *flags, f"--output={tmp_path}", env=ONE_THREAD)
    assert read(tmp_path, "result.json")["top1_error"] < 0.1  # chance: 0.9


@pytest.mark.slow
def test_a_mistake_is_one_line_and_nothing_is_written(tmp_path):
    output = tmp_path / "record"
    done = run("baseline", *DIGITS, "--patch=17", f"--output={output}", code=2)
    message = "error: data.image_size is 16: --method=kmeans needs 17 pixels or more"
    assert error_line(done) == message
    assert not output.exists()


MISTAKES = [
    (("--method=sift",), "hog|kmeans|fisher"),
    (("--centres=1",), "centres"),
    (("--train_images=-1",), "train_images"),
    (("--method=hog", "--centres=20"), "--centres is for --method=kmeans"),
    (("--method=hog", "--config.data.image_size=15"), "16 pixels"),
    (("--method=fisher",), "--method=fisher needs 24 pixels"),
    (("--method=fisher", "--patch=5"), "--patch is for --method=kmeans"),
    (("--method=fisher", *LARGER, "--gaussians=300000"), "lower it, or raise --train_images"),
    (("--method=fisher", *LARGER, "--train_images=1"), "needs 64 descriptors, and there are 35"),
    (("--stride=12", "--pool=2"), "lower --pool or --stride"),
    (("--centres=50", "--patches=49"), "raise --patches"),
    (("--config.data.val_fraction=0",), "data.val_fraction=0 leaves no validation split"),
    (("--config.data.batch_size=0",), "data.batch_size=0"),
    (("--config.data.name=folder", "--config.data.dir=nowhere"), "no store of folder in nowhere"),
    (("--centres=200000", "--patches=200000"), "lower --train_images or the number of features"),
    (("--output=/dev/null/record",), "not writable"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_names_the_value_and_the_mend(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as fault:
        check(command.parse(["baseline", *DIGITS, *arguments], define_flags, with_config=True))
    assert message in str(fault.value)
    assert list(Path.cwd().iterdir()) == []


def test_a_data_set_without_a_test_split_is_refused(tmp_path):
    write_store(tmp_path / "store", {"train": 20}, side=16)
    data = ("--config.data.name=folder", f"--config.data.dir={tmp_path / 'store'}")
    with pytest.raises(UserError, match="has no labelled test split, only train, val"):
        check(command.parse(["baseline", *DIGITS, *data], define_flags, with_config=True))


def test_a_record_is_never_overwritten(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(UserError, match="holds a record already"):
        arguments = [*DIGITS, f"--output={tmp_path}"]
        check(command.parse(["baseline", *arguments], define_flags, with_config=True))
