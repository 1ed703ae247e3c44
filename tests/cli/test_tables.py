"""Lines for a terminal of 80 columns."""

from alexnet_jax.cli.tables import wrap


def test_a_long_line_is_wrapped_and_its_path_is_left_whole():
    path = "/data/" + "well-named-" * 9 + "folder"
    lines = wrap(f"the run of {path} has {'other ' * 12}settings").splitlines()
    assert any(path in line for line in lines)
    assert len(lines) > 3 and all(len(line) <= 80 for line in lines if path not in line)
