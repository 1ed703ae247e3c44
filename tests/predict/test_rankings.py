"""Tables and files of rankings against hand-written text."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from small_disk import files_up_to

from alexnet_jax.predict.loaded_net import Output
from alexnet_jax.predict.neighbours import rank_neighbours
from alexnet_jax.predict.rankings import (
    CLASSES,
    NEIGHBOURS,
    Ranking,
    rank_classes,
    table,
    write,
    write_features,
)

LONG = "photographs/of/a/long/summer/by/the/sea/beach.jpg"
RANKED = [
    Ranking("cat.jpg", ("tabby, tabby cat", "lynx"), (0.75, 0.0625)),
    Ranking("bad.jpg", error="cannot be decoded: it is truncated or corrupt"),
    Ranking(LONG, ("a class whose name is by far too long for the table", "sea"), (0.5, 0.25)),
]


def test_classes_are_ranked_by_probability():
    outputs = [Output(Path("x.png"), np.float32([0.2, 0.5, 0.3])), Output(Path("y"), None, "bad")]
    assert rank_classes(outputs, ["a", "b", "c"], 2) == [
        Ranking("x.png", ("b", "c"), (pytest.approx(0.5), pytest.approx(0.3))),
        Ranking("y", error="bad"),
    ]


def test_the_table_fits_80_columns_and_keeps_the_end_of_a_path():
    text = table(RANKED, CLASSES)
    assert max(map(len, text.splitlines())) == 80
    assert text.splitlines() == [
        "picture                           class                              %",
        "cat.jpg                           tabby, tabby cat                75.0  ███████▌",
        "                                  lynx                             6.2  ▋",
        "bad.jpg                           error: cannot be decoded: it",
        "                                  is truncated or corrupt",
        "…ong/summer/by/the/sea/beach.jpg  a class whose name is by far …  50.0  █████",
        "                                  sea                             25.0  ██▌",
    ]


def test_a_table_of_neighbours_shows_distances():
    ranked = [Ranking("a.png", ("gallery/b.png",), (12.3456,))]
    header, line = table(ranked, NEIGHBOURS).splitlines()
    assert header.split() == ["picture", "neighbour", "distance"]
    assert line.split() == ["a.png", "gallery/b.png", "12.346"]


def test_markup_in_a_name_is_left_alone():
    assert "[bold]x[/bold]" in table([Ranking("[red]a", ("[bold]x[/bold]",), (0.5,))], CLASSES)


def test_line_breaks_and_escape_codes_in_a_name_stay_in_its_line():
    found = table([Ranking("a\nb\x1b[31m.png", ("é cat",), (1.0,))], CLASSES).splitlines()
    assert [line.split()[0] for line in found] == ["picture", r"a\nb\x1b[31m.png"]
    assert "é cat" in found[1]


def test_a_jsonl_file_has_an_object_a_line(tmp_path):
    write(tmp_path / "out.jsonl", RANKED[:2], CLASSES, 2)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "path": "cat.jpg",
            "classes": ["tabby, tabby cat", "lynx"],
            "probabilities": [0.75, 0.0625],
        },
        {"path": "bad.jpg", "error": "cannot be decoded: it is truncated or corrupt"},
    ]


def test_a_csv_file_has_flat_columns(tmp_path):
    write(tmp_path / "out.csv", RANKED[:2], CLASSES, 2)
    assert (tmp_path / "out.csv").read_text() == (
        "path,class_1,probability_1,class_2,probability_2,error\n"
        'cat.jpg,"tabby, tabby cat",0.75,lynx,0.0625,\n'
        "bad.jpg,,,,,cannot be decoded: it is truncated or corrupt\n"
    )
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert rows[0]["class_2"] == "lynx"


def test_features_are_those_of_the_readable_pictures(tmp_path):
    outputs = [
        Output(Path("a.png"), np.float32([1, 2])),
        Output(Path("bad.png"), None, "bad"),
        Output(Path("b.png"), np.float32([3, 4])),
    ]
    write_features(tmp_path / "f.npz", outputs, ("cat", "dog"))
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["features"], [[1, 2], [3, 4]])
        assert file["features"].dtype == np.float32
        assert file["paths"].tolist() == ["a.png", "b.png"]
        assert file["class_names"].tolist() == ["cat", "dog"]


def test_features_that_do_not_fit_on_the_disk_leave_no_half_of_a_file(tmp_path):
    outputs = [Output(tmp_path / "a.png", np.zeros(1000, np.float32))]
    with files_up_to(1000), pytest.raises(OSError, match="File too large"):
        write_features(tmp_path / "f.npz", outputs, ())
    assert not any(tmp_path.iterdir())


def test_a_long_path_of_wide_letters_leaves_room_for_the_class():
    lines = table([Ranking("写真/" * 20 + "猫.jpg", ("cat",), (0.5,))], CLASSES).splitlines()
    assert all(cell_len(line) <= 80 for line in lines)
    assert lines[1].startswith("…") and lines[1].split()[0].endswith("写真/猫.jpg")
    assert lines[1].split()[1:] == ["cat", "50.0", "█████"]


def test_a_picture_without_neighbours_has_a_row():
    lines = table([Ranking("a.png"), Ranking("b.png", ("c.png",), (1.0,))], NEIGHBOURS).splitlines()
    assert [line.split() for line in lines[1:]] == [["a.png", "none"], ["b.png", "c.png", "1.000"]]


def test_neighbours_are_those_of_a_loop_over_all_pairs(tmp_path):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20, 4, 3)).astype(np.float32)
    gallery = [Output(tmp_path / f"{i}.png", x) for i, x in enumerate(features)]
    gallery.insert(5, Output(tmp_path / "bad.png", None, "bad"))
    queries = [Output(tmp_path / "q.png", features[3] + 0.1), gallery[8], gallery[5]]
    found = rank_neighbours(queries, gallery, 4)
    for query, ranking in zip(queries[:2], found, strict=False):
        distances = {
            str(x.path): np.sqrt(((x.values - query.values).astype(np.float64) ** 2).sum())
            for x in gallery
            if x.values is not None and x.path != query.path
        }
        nearest = sorted(distances, key=distances.get)[:4]
        assert list(ranking.matches) == nearest
        assert ranking.numbers == pytest.approx([distances[x] for x in nearest], rel=1e-5)
    assert found[2] == Ranking(str(tmp_path / "bad.png"), error="bad")


def test_a_small_gallery_gives_fewer_neighbours(tmp_path):
    gallery = [Output(tmp_path / f"{i}.png", np.float32([i])) for i in range(2)]
    (ranking,) = rank_neighbours([Output(tmp_path / "q.png", np.float32([5]))], gallery, 6)
    assert (ranking.matches, ranking.numbers) == (
        (str(tmp_path / "1.png"), str(tmp_path / "0.png")),
        (4.0, 5.0),
    )


def test_a_query_that_is_twice_in_the_gallery_still_gets_all_its_neighbours(tmp_path):
    """As a link to a picture is, in a folder that holds both."""
    gallery = [Output(tmp_path / f"{i}.png", np.float32([i])) for i in range(4)]
    gallery[1].path.touch()
    (tmp_path / "link.png").symlink_to(gallery[1].path)
    gallery.append(Output(tmp_path / "link.png", np.float32([1])))
    (ranking,) = rank_neighbours([gallery[1]], gallery, 3)
    assert sorted(ranking.matches) == [str(tmp_path / f"{i}.png") for i in (0, 2, 3)]
    assert ranking.numbers == (1.0, 1.0, 2.0)
