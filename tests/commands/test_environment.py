"""Interpreter, packages and variables: one line if they do not fit, and what is set if they do."""

import ast
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from commands import ALL, TOP, error_line, run

from alexnet_jax import environment
from alexnet_jax.cli import machine_errors
from alexnet_jax.errors import UserError

YNN, SCHEDULER = environment.CPU_FLAGS
OURS = [f"{flag}={value}" for flag, value in environment.CPU_FLAGS.items()]
MISSING = f"absl, flax, isal and {len(environment.REQUIRED) - 3} more not installed"
OLD = [f"3.{minor}" for minor in range(6, 11)]


def start(*arguments, python=sys.executable, **env):
    """Runs Python in the repository's top folder with this environment added."""
    env = {**os.environ, "PYTHONPATH": "", **env}
    return subprocess.run(
        [python, *arguments], cwd=TOP, capture_output=True, text=True, env=env, timeout=120
    )


# --- interpreter and packages --------------------------------------------------------------------


@pytest.mark.parametrize("command", ALL, ids=lambda x: x[-1])
def test_without_packages_every_command_is_one_line(command):
    """A terminal in which .venv is not active: -S leaves out all that was installed."""
    done = start("-S", *command, "--help")
    assert done.returncode == 2 and done.stdout == ""
    line = error_line(done)
    assert MISSING in line
    assert "bash launch/quickstart.sh" in line or "source .venv/bin/activate" in line


def test_all_commands_were_found():
    names = {x[-1] for x in ALL}
    assert names >= {"alexnet_jax.main", "alexnet_jax.prepare", "launch/sweep.py"}


def test_a_program_that_imports_the_package_gets_an_import_error():
    done = start("-S", "-c", "import alexnet_jax")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: {MISSING}")


def old_interpreters():
    """Every Python from 3.6 to 3.10 that is on the PATH, or that pyenv keeps, and runs."""
    names = [x for v in OLD if (x := shutil.which(f"python{v}"))]
    names += [str(x) for v in OLD for x in Path.home().glob(f".pyenv/versions/{v}.*/bin/python")]
    return [x for x in names if subprocess.run([x, "-c", ""], capture_output=True).returncode == 0]


def test_an_old_interpreter_is_one_line():
    found = old_interpreters()
    if not found:
        pytest.skip("needs a Python from 3.6 to 3.10")
    for python in found:
        line = error_line(start("-m", "alexnet_jax.main", python=python))
        assert "Python 3.11, 3.12 or 3.13 is needed" in line


@pytest.mark.parametrize("name", ["__init__.py", "environment.py", "errors.py"])
def test_an_old_interpreter_can_read_what_it_meets_first(name):
    source = (TOP / "alexnet_jax" / name).read_text()
    ast.parse(source, feature_version=(3, 6))
    assert not re.search(r"(->|: )\s*(tuple|list|dict|type)\[", source), "evaluated since 3.9 only"


def test_the_packages_that_are_looked_for_are_those_of_requirements():
    """By the names under which pip installs them; TensorFlow is not needed to begin."""
    providers = importlib.metadata.packages_distributions()
    wanted = re.findall(r"^[\w-]+", (TOP / "requirements.txt").read_text(), re.MULTILINE)
    known = {x.lower().replace("_", "-") for x in wanted} | {"jaxlib"}
    for name in environment.REQUIRED:
        assert {x.lower().replace("_", "-") for x in providers[name]} & known, name
    assert "tensorflow" not in environment.REQUIRED


def test_optional_packages_are_named_with_the_command_that_installs_them():
    environment.check_packages("numpy", "jax")
    with pytest.raises(UserError, match=r"^no_such_a, no_such_b not installed; run: pip install"):
        environment.check_packages("no_such_a", "numpy", "no_such_b")


def without_tensorflow(folder):
    """Variables for a Python in which neither TensorFlow nor TFDS can be imported."""
    for name in ("tensorflow", "tensorflow_datasets"):
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError(name={name!r})\n")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.slow
def test_training_and_evaluation_run_without_tensorflow(tmp_path):
    """The evaluation without --config, as the run has its own; a data set that needs TensorFlow
    is one line.
    """
    env = without_tensorflow(tmp_path)
    small = ("--config.data.image_size=70", "--config.model.width=0.0625")
    flags = ("--config=configs/base.py", *small, f"--workdir={tmp_path}/run")
    run("main", *flags, "--config.train.steps=1", env=env)
    run("main", f"--workdir={tmp_path}/run", "--mode=eval", env=env)
    assert json.loads((tmp_path / "run/eval.json").read_text())["test/examples"] == 359
    done = run("prepare", "--name=mnist", f"--dir={tmp_path}/mnist", env=env, code=2)
    assert "package tensorflow" in error_line(done)


# --- variables -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("JAX_ENABLE_X64", "1", "JAX_ENABLE_X64=1 is a mode of jax that this program is not"),
        ("JAX_NUMPY_RANK_PROMOTION", "raise", "run: unset JAX_NUMPY_RANK_PROMOTION"),
        ("JAX_TRANSFER_GUARD", "disallow", "run: unset JAX_TRANSFER_GUARD"),
        ("JAX_ENABLE_X64", "perhaps", "invalid truth value 'perhaps'"),
        ("JAX_NUM_CPU_DEVICES", "two", "JAX_NUM_CPU_DEVICES=two has to be a whole number from 1"),
        ("JAX_NUM_CPU_DEVICES", "0", "JAX_NUM_CPU_DEVICES=0 has to be"),
        ("JAX_PLATFORMS", "abacus", "names 'abacus', for which nothing is installed"),
        ("JAX_PLATFORMS", "cpu,", "names '', for which nothing is installed"),
        ("JAX_DEFAULT_PRNG_IMPL", "dice", '"dice" for JAX flag jax_default_prng_impl'),
        ("XLA_FLAGS", "--xla_no_such_flag=1", "Unknown flag in XLA_FLAGS: --xla_no_such_flag=1"),
        ("XLA_FLAGS", f"{SCHEDULER}=SLOW", f"see {SCHEDULER}=SLOW"),
        ("XLA_FLAGS", "no_such_file", 'Could not open file "no_such_file"'),
    ],
)
def test_a_variable_that_jax_or_xla_refuses_is_one_line(name, value, said):
    done = start("-m", "alexnet_jax.main", "--help", **{name: value})
    assert done.returncode == 2 and done.stdout == ""
    assert said in error_line(done)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JAX_ENABLE_X64", "0"),
        ("JAX_NUM_CPU_DEVICES", "2"),
        ("JAX_PLATFORMS", "cpu"),
        ("XLA_FLAGS", "--xla_force_host_platform_device_count=2"),
    ],
)
def test_a_variable_that_they_take_is_taken(name, value):
    done = start("-m", "alexnet_jax.main", "--help", **{name: value})
    assert (done.returncode, done.stderr) == (0, "")


def test_a_plug_in_of_jax_brings_its_platform(tmp_path, monkeypatch):
    (tmp_path / "jax_plugins" / "xla_cuda12").mkdir(parents=True)
    (tmp_path / "jax_plugins" / "xla_cuda12" / "__init__.py").touch()
    assert not environment.is_platform("cuda")
    monkeypatch.syspath_prepend(tmp_path)
    found = {x: environment.is_platform(x) for x in ("cuda", "gpu", "cpu", "rocm", "metal", "")}
    assert found == dict(cuda=True, gpu=True, cpu=True, rocm=False, metal=False) | {"": False}


def test_the_installed_jaxlib_takes_our_flags():
    """It would abort the process; checked for a version before KNOWN_BELOW is raised."""
    program = "from jaxlib import xla_client; xla_client.make_cpu_client()"
    assert start("-c", program, XLA_FLAGS=" ".join(OURS)).returncode == 0
    done = start("-c", "import alexnet_jax, os; print(os.environ['XLA_FLAGS'])", XLA_FLAGS="")
    assert done.stdout.split() == OURS


@pytest.mark.parametrize(
    ("given", "version", "wanted"),
    [
        ("", "0.10.2", OURS),
        ("--a=1", "0.12.0.1", ["--a=1", *OURS]),
        (f"{YNN}=", "0.10.2", [f"{YNN}=", OURS[1]]),
        ("--a=1", "0.10.1", ["--a=1"]),
        ("--a=1", "0.13.0", ["--a=1"]),
        ("flags.txt", "0.10.2", ["flags.txt"]),
    ],
)
def test_flags(given, version, wanted, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    monkeypatch.setenv("XLA_FLAGS", given)
    environment.set_cpu_flags()
    assert os.environ["XLA_FLAGS"].split() == wanted


# --- the home folder, and memory -----------------------------------------------------------------

CACHE = "import alexnet_jax, os; print(os.environ.get('JAX_COMPILATION_CACHE_DIR'))"


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"HOME": "{}"}, "{}/.cache/alexnet_jax"),
        ({"HOME": "{}", "XDG_CACHE_HOME": "{}/x"}, "{}/x/alexnet_jax"),
        ({"HOME": "/dev/null"}, "None"),
        ({"HOME": "/dev/null", "JAX_COMPILATION_CACHE_DIR": "{}/y"}, "{}/y"),
    ],
)
def test_compiled_programs_are_kept_where_that_is_possible(
    variables, wanted, tmp_path, monkeypatch
):
    for name in ("XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    done = start("-c", CACHE, **{k: v.format(tmp_path) for k, v in variables.items()})
    assert done.stdout == wanted.format(tmp_path) + "\n"


def test_a_user_without_a_name_and_a_home_can_start():
    """As in containers: a number that the system has no name for, and no HOME."""
    nameless = ["unshare", "--user", "--map-user=12345", "env", "-u", "HOME"]
    try:
        subprocess.run([*nameless, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs user namespaces")
    command = [*nameless, sys.executable, "-m", "alexnet_jax.main", "--help"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc's malloc")
@pytest.mark.parametrize("keep", [False, True])
def test_freed_memory_is_kept(keep):
    """The system counts the pages that it has to clear for 64 MB, asked for again in a thread."""
    program = (
        "import resource, threading, numpy as np\n"
        "from alexnet_jax.environment import keep_freed_memory\n"
        f"{keep} and keep_freed_memory()\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def ask():\n"
        "    before = faults()\n"
        "    np.ones(2**26, np.uint8)\n"
        "    print(faults() - before)\n"
        "for _ in range(3):\n"
        "    thread = threading.Thread(target=ask)\n"
        "    thread.start()\n"
        "    thread.join()\n"
    )
    done = start("-c", program, NUMPY_MADVISE_HUGEPAGE="0")  # pages of 4 kB are counted
    *_, last = (int(x) for x in done.stdout.split())
    assert (last < 100) == keep


# --- an odd locale, and what libraries say -------------------------------------------------------


def test_files_are_read_as_utf_8_in_every_locale(tmp_path):
    """environment.json has a ×; the report reads it."""
    (tmp_path / "environment.json").write_text('{"devices": "1 × cpu"}', encoding="utf-8")
    program = (
        "from pathlib import Path\n"
        "from alexnet_jax.report.run_facts import _read_environment\n"
        f"print(ascii(_read_environment(Path({str(tmp_path)!r}, 'environment.json'))))\n"
    )
    odd = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = start("-c", program, **odd)
    assert (done.stdout, done.stderr) == ("{'devices': '1 \\xd7 cpu'}\n", "")


def test_matplotlib_is_silent_about_a_home_that_cannot_be_written_to(tmp_path):
    program = (
        "from alexnet_jax import main\n"
        "from alexnet_jax.cli import command\n"
        "def draw(_):\n"
        "    import matplotlib.font_manager\n"
        "command.run(draw, main.define_flags, '', with_config=True)\n"
    )
    env = {"HOME": "/dev/null", "TMPDIR": str(tmp_path)}
    done = start("-c", program, "--config=configs/base.py", **env)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_place_for_temporary_files_is_one_line(tmp_path, monkeypatch):
    """As in a container that may write into a single folder: matplotlib makes a temporary one."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    with pytest.raises(OSError) as error:
        tempfile.mkdtemp()
    assert machine_errors.explanation(error.value).endswith("export TMPDIR=FOLDER")
