"""The command line of every command: --config, proposals, home folders, --help, and the shell."""

import os
import re
import shlex
import subprocess
import sys

import pytest
from absl import flags
from commands import TOP, error_line
from ml_collections import config_flags

from alexnet_jax import main
from alexnet_jax.cli import command, config_flag
from alexnet_jax.errors import UserError
from alexnet_jax.runs import rules
from alexnet_jax.runs.workdir import write_config
from configs import base

BASE = f"--config={TOP}/configs/base.py"


def parse(*arguments):
    """As main would read this command line."""
    return command.parse(["main", *map(str, arguments)], main.define_flags, with_config=True)


def refusal(*arguments):
    """The error line of a command line that main refuses."""
    with pytest.raises(UserError) as error:
        parse(*arguments)
    return str(error.value)


def a_run(folder, **changes):
    """Writes the config.json of a run, as main does, and returns the config."""
    config = base.get_config()
    config.update_from_flattened_dict({"model.num_classes": 10, **changes})
    folder.mkdir(parents=True)
    write_config(folder, config)
    return config


# --- a key or flag that does not exist ------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--config.optim.lr=0.02", "--config.optim.learning_rate=0.02"),
        ("--config.optim.wd=0", "--config.optim.weight_decay=0"),
        ("--config.optim.learning_rte=0.02", "--config.optim.learning_rate=0.02"),
        ("--config.data.bs=8", "--config.data.batch_size=8"),
        ("--config.batch_size=8", "--config.data.batch_size=8"),
        ("--config.train.epoch=8", "--config.train.epochs=8"),
        ("--config.model.nclasses=8", "--config.model.num_classes=8"),
        ("--noconfig.data.augment.flp", "--config.data.augment.flip"),
        ("--optim.learning_rate=0.02", "--config.optim.learning_rate=0.02"),
        ("--learning_rate=0.02", "--config.optim.learning_rate=0.02"),
        ("--seed=3", "--config.seed=3"),
    ],
)
def test_the_nearest_key_is_proposed(given, meant):
    assert refusal(BASE, given).endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize("given", ["--config.foo.bar=1", "--config.optim.qqq=1"])
def test_without_a_near_key_the_place_of_all_is_named(given):
    assert refusal(BASE, given).endswith("; every key is declared in configs/base.py")


def test_an_unknown_flag_that_is_no_key_is_a_matter_for_help():
    line = refusal(BASE, "--wrkdir=x")
    assert "wrkdir" in line and line.endswith("see --help")


def test_a_misspelt_value_is_not_taken_for_a_misspelt_key():
    line = refusal(BASE, "--config.optim.learning_rate=quick")
    assert "quick" in line and "did you mean" not in line


# --- --config -------------------------------------------------------------------------------------


def test_the_config_of_a_run_is_a_config(tmp_path):
    wanted = a_run(tmp_path / "run", **{"optim.learning_rate": 0.03, "model.exchange": ("fc6",)})
    values = parse(f"--config={tmp_path}/run/config.json")
    assert rules.differences(wanted, values.config) == []
    assert config_flags.get_config_filename(values["config"]) == f"{tmp_path}/run/config.json"


def test_a_default_config_is_that_of_the_checkout_and_stands_first():
    assert config_flag.with_default(["x", "--config.seed=1"], "base.py") == [
        "x",
        f"--config={TOP}/configs/base.py",
        "--config.seed=1",
    ]


@pytest.mark.parametrize("given", [["--config=a.py"], ["--config", "a.py"], ["-config=a.py"], []])
def test_without_need_or_file_no_default_config_is_added(given):
    file = "base.py" if given else "none.py"
    assert config_flag.with_default(["x", *given], file) == ["x", *given]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("optim.learning_rate", "0.5", 0.5),
        ("train.epochs", "2", 2.0),
        ("data.input_scale", "(1.0, 2.0, 3.0)", (1.0, 2.0, 3.0)),
        # Not set in the run, so that its config.json does not know their type:
        ("model.num_classes", "7", 7),
        ("model.activation", "tanh", "tanh"),
        ("model.lrn", "false", False),
        ("data.input_mean", "(1.0, 2.0, 3.0)", (1.0, 2.0, 3.0)),
        ("model.exchange", "('fc6',)", ("fc6",)),
    ],
)
def test_the_config_of_a_run_takes_overrides(key, text, value, tmp_path):
    a_run(tmp_path / "run")
    values = parse(f"--config={tmp_path}/run/config.json", f"--config.{key}={text}")
    assert dict(rules.flat(values.config))[key] == value
    assert config_flags.get_override_values(values["config"]) == {key: value}


def test_the_config_of_a_run_has_no_other_keys(tmp_path):
    a_run(tmp_path / "run")
    line = refusal(f"--config={tmp_path}/run/config.json", "--config.optim.lr=1")
    assert line.endswith("did you mean --config.optim.learning_rate=1?")


@pytest.mark.parametrize(
    "flag", ["--workdir={}", "--checkpoint={}", "--checkpoint={}/checkpoints/40,elsewhere"]
)
def test_a_run_brings_its_own_config(flag, tmp_path):
    wanted = a_run(tmp_path / "run", seed=5)
    values = parse(flag.format(tmp_path / "run"), "--mode=eval", "--config.eval.views=10")
    wanted.eval.views = 10
    assert rules.differences(wanted, values.config) == []


def test_a_config_that_is_given_wins_over_the_run_s(tmp_path):
    a_run(tmp_path / "run", seed=5)
    assert parse(f"--workdir={tmp_path}/run", BASE).config.seed == 0


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--mode=eval", "--config is missing; give a file, such as configs/base.py"),
        ("--workdir={}/none", "configs/base.py ({}/none has no config.json)"),
        ("--config={}/none/config.json", "config file '{}/none/config.json' cannot be read"),
        ("--config={}/other.json", "has to be a Python file or a run's config.json"),
        ("--config={}/broken/config.json", "{}/broken/config.json cannot be read"),
    ],
)
def test_a_config_that_cannot_be_had_is_named(flag, said, tmp_path):
    for name in ("other.json", "broken/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{")
    assert said.format(tmp_path) in refusal(flag.format(tmp_path))


# --- home folders and names -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        ("--workdir=~/runs/x", "--workdir=/home/me/runs/x"),
        ("--workdir=~", "--workdir=/home/me"),
        ("--checkpoint=~/a,~/b", "--checkpoint=/home/me/a,/home/me/b"),
        ("--config.data.dir=~/a=b", "--config.data.dir=/home/me/a=b"),
        ("--grid=config.data.dir=~/a,~/b", "--grid=config.data.dir=/home/me/a,/home/me/b"),
        ("~/x", "/home/me/x"),
        ("--workdir=runs/a~b/~", "--workdir=runs/a~b/~"),
    ],
)
def test_a_path_may_begin_with_the_home_folder(argument, wanted, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert command.expand_home(argument) == wanted


def test_paths_in_a_config_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    a_run(tmp_path / "run", **{"data.dir": "~/digits"})
    values = parse(f"--workdir={tmp_path}/run", "--config.init_from=~/runs/x")
    assert (values.config.data.dir, values.config.init_from) == (
        "/home/me/digits",
        "/home/me/runs/x",
    )


def test_a_home_folder_that_is_not_known_is_one_line():
    line = refusal(BASE, "--workdir=~no-such-user/x")
    assert line == "no home folder is known for ~no-such-user; write the path in full"


def test_a_name_that_is_not_utf_8_is_refused_before_anything_is_written():
    assert "'--workdir=b\\udce9' is not UTF-8" in refusal(BASE, os.fsdecode(b"--workdir=b\xe9"))


# --- --help ---------------------------------------------------------------------------------------


def test_help_states_the_default_of_each_flag_that_has_one():
    table = {
        "count": (0, "Pictures."),
        "kinds": (["a", "b"], "Columns."),
        "name": ("", "A name."),
        "paths": ((), "Some paths."),
    }

    def define(values):
        command.define(values, table)
        flags.DEFINE_float("seconds", 2.0, "Time.", flag_values=values)
        flags.DEFINE_bool("fast", False, "Less.", flag_values=values)

    assert command.help_text(define, "Does it.").splitlines() == [
        "Does it.",
        "",
        "Flags:",
        "  --count: Pictures. Default: 0.",
        "  --fast: Less.",
        "  --kinds: Columns. Default: a,b.",
        "  --name: A name.",
        "  --paths: Some paths.",
        "  --seconds: Time. Default: 2.",
    ]


# --- the last resort, through the shell -----------------------------------------------------------


FILES = (
    "import resource, sys\n"
    "from alexnet_jax import main\n"
    "from alexnet_jax.cli import command\n"
    "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
    "command.run(main.main, main.define_flags, '', with_config=True)\n"
)


def shell(*arguments, **env):
    """Runs Python in the repository's top folder with this environment added."""
    env = {**os.environ, "PYTHONPATH": str(TOP), **env}
    return subprocess.run(
        [sys.executable, *arguments], cwd=TOP, capture_output=True, text=True, env=env
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-m", "alexnet_jax.main", f"--workdir={'n' * 300}"], "choose a shorter name"),
        (["-c", FILES], "Too many open files; allow more: ulimit -n"),
    ],
    ids=["name too long", "open files"],
)
def test_through_the_shell_the_last_resort_is_one_line(arguments, said):
    done = shell(*arguments, BASE)
    assert done.returncode == 2 and said in error_line(done)


@pytest.mark.parametrize("flag", ["--mode=describe", "--help"])
def test_a_terminal_without_utf_8_ends_no_run(flag):
    arguments = (BASE, "--config.model.num_classes=10", flag)
    done = shell("-m", "alexnet_jax.main", *arguments, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"\\(xd7|u2026)", done.stdout)  # × and …


def test_a_reader_of_the_output_that_is_gone_is_no_error():
    """As in `… --help | head`; `true` ends before anything is printed."""
    line = f"{shlex.quote(sys.executable)} -m alexnet_jax.main --help | true"
    done = subprocess.run(["bash", "-c", line], cwd=TOP, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_end_no_command(closed):
    """Nor do later files get their numbers, into which libraries would print."""
    program = (
        "from alexnet_jax import main\n"
        "from alexnet_jax.cli import command\n"
        "import os, tempfile\n"
        "def numbers(_):\n"
        "    with tempfile.TemporaryFile() as file:\n"
        "        return 2 if file.fileno() > 2 else 1\n"
        "command.run(numbers, main.define_flags, '', with_config=True)\n"
    )
    words = shlex.join([sys.executable, "-c", program, BASE])
    done = subprocess.run(["bash", "-c", f"{words} {closed}"], cwd=TOP)
    assert done.returncode == 2


@pytest.mark.parametrize("name", ["main", "predict"])
def test_a_folder_above_that_is_not_utf_8_is_one_line(name, tmp_path):
    """No checkpoint can be written or read there."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    a_run(folder / "run")
    words = ["--checkpoint=run", "--images=x"] if name == "predict" else [BASE, "--workdir=run"]
    env = {**os.environ, "PYTHONPATH": str(TOP)}
    done = subprocess.run(
        [sys.executable, "-m", f"alexnet_jax.{name}", *words],
        cwd=folder, capture_output=True, text=True, env=env,
    )  # fmt: skip
    assert done.returncode == 2 and "is not UTF-8; rename the folder" in error_line(done)
