"""The scripts in launch/: which Python they take, and what they leave if they cannot go on.

Where a test needs an interpreter of another version, a script stands for it that prints a version:
that is all that the search asks.
"""

import os
import shutil
import subprocess
import sys

import pytest
from commands import TOP, error_line

BASH = shutil.which("bash")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def shell(script, cwd, **env):
    """Runs a script after environment.sh has been read."""
    return subprocess.run(
        [BASH, "-c", f". {TOP}/launch/environment.sh; {script}"],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**{k: v for k, v in os.environ.items() if k != "PYTHON"}, **env},
    )


def interpreters(folder, versions):
    """A PATH with nothing but interpreters of these names and versions."""
    folder.mkdir()
    for name, version in versions.items():
        (folder / name).write_text(f"#!/bin/sh\necho {version}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def without_ensurepip(folder):
    """A PYTHONPATH on which ensurepip cannot be imported, as on Debian without python3-venv."""
    (folder / "ensurepip").mkdir()
    (folder / "ensurepip" / "__init__.py").write_text("raise ImportError\n")
    return str(folder)


@pytest.mark.parametrize(
    ("found", "named", "taken"),
    [
        ({"python3": "3.12"}, "", "python3"),
        ({"python3": "3.8", "python3.11": "3.11", "python3.12": "3.12"}, "", "python3.12"),
        ({"python3": "3.14", "python3.11": "3.11"}, "", "python3.11"),
        ({"python3.13": "3.13"}, "", "python3.13"),
        ({"python3": "3.13", "mine": "3.11"}, "mine", "mine"),
    ],
)
def test_the_first_python_that_fits_is_taken(found, named, taken, tmp_path):
    path = interpreters(tmp_path / "bin", found)
    done = shell("find_python && echo $python", tmp_path, PATH=path, PYTHON=named)
    assert (done.stdout, done.stderr) == (f"{taken}\n", "")


@pytest.mark.parametrize(
    ("found", "named", "said"),
    [
        ({}, "", "there is no python3;"),
        ({"python3": "3.8"}, "", "python3 is Python 3.8;"),
        ({"python3": "3.14"}, "", "python3 is Python 3.14;"),
        ({"python3": "3.13", "mine": "3.9"}, "mine", "mine is Python 3.9;"),
        ({"python3": "3.13"}, "mine", "there is no mine;"),
    ],
)
def test_without_one_that_fits_an_error_line_names_what_is_needed(found, named, said, tmp_path):
    path = interpreters(tmp_path / "bin", found)
    done = shell("environment requirements.txt", tmp_path, PATH=path, PYTHON=named)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith(f"error: {said}") and "Python 3.11, 3.12 or 3.13" in line
    assert not (tmp_path / ".venv").exists()


def test_without_python3_venv_no_half_venv_is_left(tmp_path):
    """The package that Debian keeps apart is named."""
    path = without_ensurepip(tmp_path)
    done = shell("find_venv", tmp_path, PYTHON=sys.executable, PYTHONPATH=path)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and "apt-get install python3-venv" in line
    assert not (tmp_path / ".venv").exists()


def test_a_venv_that_fails_midway_is_removed(tmp_path):
    """Its files may not be longer than 20 kB."""
    done = shell("ulimit -f 20; find_venv", tmp_path, PYTHON=sys.executable)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: .venv could not be made")
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("possible", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_venv_without_pip_gets_one(possible, tmp_path):
    """Left by an earlier version or an interrupted start; without ensurepip it is named."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=tmp_path)
    env = {} if possible else {"PYTHONPATH": without_ensurepip(tmp_path)}
    done = shell("find_venv && install --no-index pip", tmp_path, **env)
    if possible:
        assert done.returncode == 0, done.stderr
        assert (tmp_path / ".venv/bin/pip3").exists()
    else:
        assert done.returncode == 2 and "rm -r .venv" in done.stderr


@pytest.mark.slow
def test_a_venv_whose_interpreter_is_gone_is_made_anew(tmp_path):
    """As after an upgrade of the system; its record of installed packages goes with it."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to("/no/such/python")
    (tmp_path / ".venv/installed").touch()
    done = shell("find_venv && .venv/bin/python -m pip --version", tmp_path, PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / ".venv/installed").exists()


def test_python_of_another_version_gets_its_own_venv(tmp_path):
    interpreters(tmp_path / ".venv", {})
    interpreters(tmp_path / ".venv/bin", {"python": "3.9"})
    done = shell("make_venv() { :; }; find_venv; echo $venv", tmp_path, PYTHON=sys.executable)
    assert done.stdout == f".venv-{HERE}\n"
    done = shell("find_venv", tmp_path)
    assert done.returncode == 2 and ".venv has Python 3.9" in done.stderr


@pytest.mark.slow
def test_a_failed_installation_is_not_taken_for_done(tmp_path):
    """And the command that failed is named after pip's own reason."""
    for name in ("pyproject.toml", "requirements.txt", "tests/requirements.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no-such-package-at-all\n")
    env = {"PYTHON": sys.executable, "PIP_NO_INDEX": "1"}
    done = shell("environment requirements.txt", tmp_path, **env)
    assert done.returncode == 2
    assert "GB on the disk" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("error: pip could not install -r requirements")
    assert not (tmp_path / ".venv/installed").exists()


def test_of_pips_output_the_large_files_are_shown(tmp_path):
    """As pip prints them, which is quiet between them for minutes."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").write_text(
        "#!/bin/sh\n"
        "echo 'Collecting tensorflow'\n"
        "echo '  Downloading tensorflow-2.21.0-cp311.whl (620.8 MB)'\n"
        "echo '  Downloading absl_py-2.3.1.whl (135 kB)'\n"
        "echo '  Using cached jaxlib-0.10.2-cp311.whl (90.1 MB)'\n"
        "echo 'Installing collected packages: absl-py, jaxlib, tensorflow'\n"
    )
    (tmp_path / ".venv/bin/python").chmod(0o755)
    done = shell("venv=.venv; install -r requirements.txt", tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.splitlines() == [
        "  Downloading tensorflow-2.21.0-cp311.whl (620.8 MB)",
        "  Using cached jaxlib-0.10.2-cp311.whl (90.1 MB)",
        "  Installing collected packages",
    ]


def checkout(folder):
    """A checkout of its own, without a .venv."""
    shutil.copytree(TOP / "launch", folder / "launch")
    return folder


@pytest.mark.parametrize("script", ["two_gpus.sh", "slurm.sbatch"])
def test_without_a_venv_a_script_is_one_line(script, tmp_path):
    checkout(tmp_path)
    done = subprocess.run([BASH, f"launch/{script}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert error_line(done) == (
        f"error: {tmp_path} has no .venv; make it first: bash launch/quickstart.sh"
    )


def test_a_job_that_is_submitted_from_elsewhere_is_one_line(tmp_path):
    done = subprocess.run(
        [BASH, TOP / "launch/slurm.sbatch"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and "not the repository's top folder" in error_line(done)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("quickstart.sh", "{elsewhere}/./old is Python 3.9;"),
        ("test.sh", "{elsewhere}/./old is Python 3.9;"),
        ("two_gpus.sh", "{top} has no .venv;"),
    ],
)
def test_a_script_can_be_called_by_a_link_from_any_folder(script, said, tmp_path):
    """A relative path in PYTHON is one of the folder that it is called from."""
    top, elsewhere = checkout(tmp_path / "top"), tmp_path / "elsewhere"
    interpreters(elsewhere, {"old": "3.9"})
    (elsewhere / "link").symlink_to(top / "launch" / script)
    for name in ("pyproject.toml", "requirements.txt", "tests/requirements.txt"):
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).touch()
    env = {**os.environ, "PYTHON": "./old"}
    done = subprocess.run([BASH, "link"], cwd=elsewhere, capture_output=True, text=True, env=env)
    assert done.returncode == 2
    assert error_line(done).startswith(f"error: {said.format(top=top, elsewhere=elsewhere)}")
