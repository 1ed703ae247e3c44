"""docs/alexnet.ipynb: it runs from top to end, and its committed output is complete.

`jupyter execute --inplace docs/alexnet.ipynb` renews the output.
"""

import json
import shutil
import subprocess

import nbclient
import nbformat
import pytest
from commands import TOP

NOTEBOOK = TOP / "docs" / "alexnet.ipynb"
PNG = "image/png"
AUTHOR = ["-c", "user.name=test", "-c", "user.email=test"]


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_committed_output_is_that_of_one_run_without_errors():
    text = NOTEBOOK.read_text()
    cells = code_cells(json.loads(text))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [x for x in outputs if x["output_type"] == "error" or x.get("name") == "stderr"]
    assert sum(PNG in output.get("data", {}) for output in outputs) == 4
    assert "/root/" not in text and "/home/" not in text
    assert NOTEBOOK.stat().st_size < 500_000


def test_the_first_cell_clones_a_repository_and_can_be_run_again(tmp_path, monkeypatch):
    """As in Colab, where only the notebook is there. The packages are those of the tests."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    repository = tmp_path / "repository"
    shutil.copytree(TOP / "configs", repository / "configs")
    for words in (["init", "-q"], ["add", "."], [*AUTHOR, "commit", "-qm", "configs"]):
        subprocess.run(["git", *words], cwd=repository, check=True)
    source = code_cells(nbformat.read(NOTEBOOK, as_version=4))[0].source
    assert 'REPOSITORY = ""' in source and "-m pip install -q -e" in source
    source = source.replace('REPOSITORY = ""', f'REPOSITORY = "{repository}"')
    source = source.replace("-m pip install -q -e", "-m pip --version #")
    cells = [nbformat.v4.new_code_cell(x) for x in (source, source, "os.getcwd()")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    folder = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, startup_timeout=300, resources=folder).execute()
    assert notebook.cells[-1].outputs[0].data["text/plain"] == repr(str(tmp_path / "alexnet_jax"))
    assert (tmp_path / "alexnet_jax/configs/base.py").exists()


@pytest.mark.slow
def test_every_cell_runs(tmp_path, monkeypatch):
    """With two epochs instead of ten."""
    (tmp_path / "configs").symlink_to(TOP / "configs")
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (settings,) = (x for x in code_cells(notebook) if "EPOCHS = 10" in x.source)
    settings.source = settings.source.replace("EPOCHS = 10", "EPOCHS = 2")
    client = nbclient.NotebookClient(
        notebook, timeout=600, startup_timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises for a cell that fails
    run = tmp_path / "runs/notebook"
    assert json.loads((run / "eval.json").read_text())["test/examples"] == 359
    assert (run / "predicted.png").exists()
    (*_, figure) = code_cells(notebook)
    assert any(PNG in output.get("data", {}) for output in figure.outputs)
