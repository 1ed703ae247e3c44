"""The growth of cost: its points, its arithmetic by hand, and the command on small points."""

import json
import subprocess
import sys

import growth
import pytest
from commands import TOP

from alexnet_jax.errors import UserError

POINTS = ("--points=images=300", "--points=devices=1,2")


def point(value, cause, **costs):
    return {"axis": "batch", "value": value, "cause": cause, **costs}


def test_default_points_cover_the_documented_ranges():
    points = growth.chosen([])
    for axis, first, last in (
        *(("batch", 1, 512), ("width", 1 / 8, 1), ("devices", 1, 4), ("images", 1e3, 1e6)),
    ):
        values = [value for name, value in points if name == axis]
        assert values == sorted(values) and (values[0], values[-1]) == (first, last)


def test_points_can_be_chosen():
    chosen = growth.chosen(["batch=1,64", "width=0.5"])
    assert chosen == [("batch", 1), ("batch", 64), ("width", 0.5)]


@pytest.mark.parametrize("text", ["depth=1", "batch", "batch=", "batch=1.5", "batch=0", "width=x"])
def test_an_unknown_point_is_named_in_the_error(text):
    with pytest.raises(UserError, match=f"--points={text} "):
        growth.chosen([text])


def test_a_device_holds_parameters_velocities_and_temporaries():
    record = {"parameter_bytes": 4e6, "velocity_bytes": 4e6, "temporary_bytes": 2e6}
    record |= {"activation_bytes": 9e6, "sent_bytes": 1.5e6}
    costs = growth.plan_costs(record, 3.0)
    assert costs == {"held_mb": 10.0, "sent_mb": 1.5, "compile_s": 3.0}


def test_power_is_the_exponent_of_the_cause():
    one, two = point(1, 1, step_ms=2.0), point(4, 4, step_ms=32.0)
    assert growth.power(one, two, "step_ms") == pytest.approx(2)  # 16 times for 4 times
    assert growth.power(one, point(4, 4, step_ms=1.0), "step_ms") == 0
    assert "| 4 | 4 | 32 (2.00) |" in growth.tables([one, two])


def test_a_failing_command_is_reported():
    with pytest.raises(UserError, match=r"data\.batch_size=48"):
        growth.run(growth.arguments_of("devices", 5))


@pytest.mark.soak
def test_the_command_writes_lines_tables_and_plot(tmp_path):
    done = subprocess.run(
        [sys.executable, "launch/growth.py", f"--output={tmp_path}", *POINTS],
        cwd=TOP,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in (tmp_path / "growth.jsonl").read_text().splitlines()]
    assert [(x["axis"], x["value"]) for x in found] == [
        *(("images", 300), ("devices", 1), ("devices", 2))
    ]
    assert found[0]["peak_mb"] > 100 and found[0]["step_ms"] > 0
    alone, two = found[1:]
    assert alone["sent_mb"] == 0 and two["sent_mb"] > 0
    assert two["held_mb"] < alone["held_mb"]
    assert "## images" in (tmp_path / "growth.md").read_text()
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
