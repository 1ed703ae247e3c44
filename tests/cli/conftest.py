"""An empty folder for every test of the checks."""

import pytest


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Every test runs in an empty folder, where whatever it writes can be seen."""
    monkeypatch.chdir(tmp_path)
