"""The command report on trained nets: its page against their evaluation, counted independently."""

import base64
import io
import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from commands import in_process, run
from image_files import png, write_folder
from PIL import Image
from sklearn.metrics import confusion_matrix

from alexnet_jax import main
from alexnet_jax.data import store
from alexnet_jax.data.records import read_images
from alexnet_jax.prepare import __main__ as prepare
from alexnet_jax.report import __main__ as report

# As a user may call folders and files; none of it may become part of the page's markup.
CLASSES = ("<img src=x onerror=alert(1)>", 'a & "b"', "{{ plain }}")
PICTURE = "<script>{}.png"
NET = (
    "--config=configs/base.py",
    "--config.data.name=folder",
    "--config.model.width=0.0625",
    "--config.data.batch_size=24",
)


@dataclass(frozen=True)
class Runs:
    """Two runs on the same store, one of them evaluated with all its probabilities kept."""

    store: Path
    good: Path
    poor: Path
    probabilities: np.ndarray
    labels: np.ndarray


def noise(rng, label):
    """Noise in which one colour is brighter than the others."""
    pixels = rng.integers(0, 200, (18, 18, 3))
    pixels[..., label] += 25
    return png(np.asarray(Image.fromarray(np.uint8(pixels)).resize((72, 72))))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("report"), np.random.default_rng(0)
    content = {
        split: {
            name: {PICTURE.format(i): noise(rng, label) for i in range(count)}
            for label, name in enumerate(CLASSES)
        }
        for split, count in (("train", 24), ("test", 8))
    }
    source = write_folder(folder / "pictures", content)
    directory, good, poor = folder / "store", folder / "good", folder / "poor"
    in_process(
        prepare, "--name=folder", f"--source={source}", f"--dir={directory}", "--encoding=raw"
    )
    net = (*NET, f"--config.data.dir={directory}")
    run("main", *net, "--config.train.steps=20", f"--workdir={good}")
    run("main", *net, "--config.train.steps=2", "--config.seed=1", f"--workdir={poor}")
    evaluate(good, f"--probabilities={folder / 'all.npz'}")
    with np.load(folder / "all.npz") as file:
        return Runs(directory, good, poor, file["probabilities"], file["labels"])


def evaluate(workdir, *flags):
    in_process(main, "--mode=eval", f"--workdir={workdir}", *flags, with_config=True)


class Page(HTMLParser):
    """The parts of a page: its tags, and the texts of its tables' cells."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.tables, self.text, self._cell = [], [], path.read_text(), False
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append((dict(attributes)["class"], []))
        if tag == "tr":
            self.tables[-1][1].append([])
        if tag in ("th", "td"):
            self.tables[-1][1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("th", "td")

    def handle_data(self, data):
        if self._cell:
            self.tables[-1][1][-1][-1] += data

    def of_class(self, name):
        """The tables of a CSS class, as lists of rows."""
        return [rows for classes, rows in self.tables if name in classes.split()]

    def values(self, tag, attribute):
        return [x[attribute] for found, x in self.tags if found == tag and attribute in x]


def page_of(*workdirs, output):
    names = ",".join(map(str, workdirs))
    in_process(report, f"--workdir={names}", f"--output={output}")
    return Page(output)


def pixels_of(uri):
    kind, _, content = uri.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg"), uri[:60]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


@pytest.mark.slow
def test_the_confusion_matrix_is_that_of_the_probabilities(runs, tmp_path):
    page = page_of(runs.good, output=tmp_path / "report.html")
    (head, *rows) = page.of_class("confusion")[0]
    order = store.open_store(runs.store).class_names
    assert head == ["", *order] and [row[0] for row in rows] == list(order)
    found = [[int(cell or 0) for cell in row[1:]] for row in rows]
    assert found == confusion_matrix(runs.labels, runs.probabilities.argmax(1)).tolist()
    assert 0 < np.trace(found) < 24  # some are right and some are wrong


@pytest.mark.slow
def test_errors_of_classes_are_those_of_the_probabilities(runs, tmp_path):
    page = page_of(runs.good, output=tmp_path / "report.html")
    (_, *rows) = page.of_class("classes")[0]
    names = store.open_store(runs.store).class_names
    wrong = runs.probabilities.argmax(1) != runs.labels
    errors = {name: wrong[runs.labels == i].mean() for i, name in enumerate(names)}
    assert {row[0]: row[2] for row in rows} == {k: f"{100 * x:.2f} %" for k, x in errors.items()}
    assert [row[1] for row in rows] == ["8", "8", "8"]
    shown = [float(row[2].split()[0]) for row in rows]
    assert shown == sorted(shown, reverse=True)


@pytest.mark.slow
def test_the_worst_pictures_are_shown_as_the_store_holds_them(runs, tmp_path):
    page = page_of(runs.good, output=tmp_path / "report.html")
    own = runs.probabilities[np.arange(24), runs.labels]
    wrong = np.flatnonzero(runs.probabilities.argmax(1) != runs.labels)
    worst = wrong[np.argsort(own[wrong], kind="stable")]
    split = store.open_store(runs.store).splits["test"]
    shown = [x for tag, x in page.tags if tag == "img" and "taken for" in x["alt"]]
    names = store.image_names(split)
    assert [x["alt"].partition(".png")[0] + ".png" for x in shown] == [names[i] for i in worst]
    for picture, expected in zip(shown, read_images(split, worst), strict=True):
        np.testing.assert_array_equal(pixels_of(picture["src"]), expected)


@pytest.mark.slow
def test_the_page_needs_nothing_beside_it_and_names_stay_text(runs, tmp_path):
    page = page_of(runs.good, output=tmp_path / "report.html")
    linked = page.values("img", "src") + page.values("source", "srcset")
    assert len(linked) > 5 and all(uri.startswith("data:image/") for uri in linked)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "base", "object"}
    assert not [name for _, x in page.tags for name in x if name.startswith("on")]
    assert not re.search(r"https?://|@import|url\(", page.text)
    assert "&lt;img src=x onerror=alert(1)&gt;" in page.text and "{{ plain }}" in page.text


@pytest.mark.slow
def test_numbers_curves_kernels_and_machine_are_those_of_the_run(runs, tmp_path):
    page = page_of(runs.good, output=tmp_path / "report.html")
    numbers = json.loads((runs.good / "eval.json").read_text())
    assert f"<dd>{100 * numbers['test/top1_error']:.2f} %</dd>" in page.text
    lines = [json.loads(x) for x in (runs.good / "metrics.jsonl").read_text().splitlines()]
    error, epoch = min((x["val/top1_error"], x["epoch"]) for x in lines if "val/loss" in x)
    assert f"<dd>{100 * error:.2f} % after epoch {epoch:.4g}</dd>" in page.text
    assert f"<dd>{lines[-1]['epoch']:.4g} epochs, 20 steps</dd>" in page.text
    curves = base64.b64decode(page.values("img", "src")[0].partition(";base64,")[2])
    assert b"<svg" in curves
    kernels = [x for tag, x in page.tags if tag == "img" and "Kernels of tower" in x["alt"]]
    # 1/16 of 48 kernels of 11 pixels in each tower, with a pixel between them
    assert [pixels_of(x["src"]).shape for x in kernels] == [(11, 35, 3)] * 2
    recorded = json.loads((runs.good / "environment.json").read_text())
    rows = {row[0]: row[1] for table in page.of_class("facts") for row in table}
    assert rows["jaxlib"] == recorded["jaxlib"] and rows["processor"] == recorded["processor"]
    assert rows["model.width"] == "0.0625"


@pytest.mark.slow
def test_several_runs_stand_side_by_side(runs, tmp_path):
    """First with a run that has not been evaluated, which says how that is done; then with it."""
    page = page_of(runs.good, runs.poor, output=tmp_path / "report.html")
    assert f"python -m alexnet_jax.main --mode=eval --workdir={runs.poor}</code>" in page.text
    assert "This run has not been evaluated." in page.text
    assert len(page.of_class("confusion")) == 1
    evaluate(runs.poor, f"--probabilities={tmp_path / 'poor.npz'}")
    page = page_of(runs.good, runs.poor, output=tmp_path / "report.html")
    assert len(page.of_class("confusion")) == 2
    tables = page.of_class("facts")
    head = {row[0]: row[1:] for row in tables[0]}
    assert head[""] == ["good", "poor"] and head["trained"][0].endswith(" 20 steps")
    with np.load(tmp_path / "poor.npz") as file:
        poor = file["probabilities"].argmax(1) != runs.labels
    good = runs.probabilities.argmax(1) != runs.labels
    both = str((good & poor).sum())
    expected = [["good", str(good.sum()), both], ["poor", both, str(poor.sum())]]
    assert tables[1][1:] == expected
    assert tables[2] == [
        ["setting", "good", "poor"],
        ["seed", "0", "1"],
        ["train.steps", "20", "2"],
    ]


@pytest.mark.slow
def test_without_its_store_a_run_still_has_its_counts(runs, tmp_path):
    moved = runs.store.rename(runs.store.with_name("moved"))
    try:
        page = page_of(runs.good, output=tmp_path / "report.html")
    finally:
        moved.rename(runs.store)
    assert "they cannot be shown: no store of folder in" in page.text
    assert len(page.of_class("confusion")) == 1


@pytest.mark.slow
def test_predictions_of_an_earlier_evaluation_are_not_shown(runs, tmp_path):
    path = runs.good / "eval.json"
    kept = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(kept) | {"step": 10}))
        page = page_of(runs.good, output=tmp_path / "report.html")
    finally:
        path.write_text(kept)
    assert not page.of_class("confusion") and "--mode=eval" in page.text
    assert "evaluation were not kept" in page.text


@pytest.mark.slow
def test_in_a_shell_the_report_of_a_run_lies_in_its_workdir(runs):
    assert run("report", f"--workdir={runs.good}").stdout == (
        f"written to {runs.good / 'report.html'}\n"
    )
    assert (runs.good / "report.html").stat().st_size < 1_000_000
