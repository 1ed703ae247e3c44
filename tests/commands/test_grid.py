"""The grid of a sweep: its values, its points and their names."""

import re

import grid
import pytest

from alexnet_jax.errors import UserError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.01", ["0.01"]),
        ("0.01,0.02", ["0.01", "0.02"]),
        ("0.01, 0.02", ["0.01", "0.02"]),
        ('(),("conv3",)', ["()", '("conv3",)']),
        ('("conv3","conv4"),()', ['("conv3","conv4")', "()"]),
        ("((0,1),(2,3)),((4,5),)", ["((0,1),(2,3))", "((4,5),)"]),
        ("[1,2],{3,4}", ["[1,2]", "{3,4}"]),
        ("'a,b',\"c,d\"", ["a,b", "c,d"]),
        ("'',runs/a", ["", "runs/a"]),
        ("""("it's",),"(" """, ["""("it's",)""", "("]),
        ("a=b,c=d", ["a=b", "c=d"]),
    ],
)
def test_split(text, values):
    assert grid.split(text) == values


def test_split_undoes_join_for_any_tuples():
    atoms = [1, -0.5, "a,b", "(", "it's", (), ("x",), (("fc6", 0, 1e-3), ("]", 2))]
    every = [(a, b) for a in atoms for b in atoms] + [(a,) for a in atoms]
    for i in range(len(every)):
        chosen = [repr(every[(i * k) % len(every)]) for k in (1, 5, 7)]
        assert grid.split(",".join(chosen)) == chosen


@pytest.mark.parametrize("text", ["(1,2", "'a", "1,,2", "1,", ",1", " ", "(1,[2)", '("a)'])
def test_split_refuses(text):
    with pytest.raises(UserError, match=r"empty|not closed"):
        grid.split(text)


def test_product_changes_the_last_fastest():
    points = grid.product(["config.a.b=1,2", "config.c=x,y,z"])
    assert [tuple(point.values()) for point in points] == [
        ("1", "x"), ("1", "y"), ("1", "z"), ("2", "x"), ("2", "y"), ("2", "z"),
    ]  # fmt: skip
    assert list(points[0]) == ["a.b", "c"]


def test_names_are_readable_safe_and_different():
    def names(*grids):
        return grid.point_names(grid.product(grids))

    assert names("config.optim.learning_rate=0.02", "config.model.activation=relu,tanh") == [
        "learning_rate=0.02+activation=relu",
        "learning_rate=0.02+activation=tanh",
    ]
    assert names("config.model.name=a", "config.optim.name=b", "config.seed=1e+06") == [
        "model.name=a+optim.name=b+seed=1e+06"
    ]
    assert grid.point_names([{}, {"seed": "1"}]) == ["base", "seed=1"]
    hard = names(
        """config.x=(),("conv3",),("conv3"),../../etc,' ',a/b,a_b,'a,b',é,é;rm,"""
        + f"{'y' * 300},{'y' * 301}"
    )
    assert len(set(hard)) == 12
    for name in hard:
        assert re.fullmatch(r"x=[A-Za-z0-9+._-]{1,60}", name)


def test_names_of_many_settings_fit_a_folder_and_differ(tmp_path):
    """As of a random search over a dozen settings."""
    many = {f"optim.setting_{i}": "0.0123456789012345" for i in range(12)}
    names = grid.point_names([many, {**many, "optim.setting_11": "0.02"}])
    assert len(set(names)) == 2
    assert all(name.startswith("setting_0=0.0123456789012345+") for name in names)
    for name in names:
        (tmp_path / name).mkdir()


def test_a_runs_config_has_no_points_of_its_own(tmp_path):
    """It is JSON: run as Python, it ended in a NameError for `true`."""
    file = tmp_path / "config.json"
    file.write_text('{"model": {"lrn": true}}')
    with pytest.raises(UserError, match="nothing to sweep: give --grid"):
        grid.own_points(str(file))
