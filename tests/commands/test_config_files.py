"""Config files as people write them: a key or a type that configs/base.py lacks is named."""

import pytest
from commands import TOP

from alexnet_jax import main
from alexnet_jax.cli import command
from alexnet_jax.errors import UserError
from alexnet_jax.runs.workdir import write_config
from configs import base

CHANGED = """from configs import base


def get_config():
    config = base.get_config()
    {}
    return config
"""


def parse(*arguments):
    """Returns the config as main would read this command line."""
    words = ["main", *map(str, arguments)]
    return command.parse(words, main.define_flags, with_config=True).config


def refusal(*arguments):
    """Returns the line with which main refuses this command line."""
    with pytest.raises(UserError) as error:
        parse(*arguments)
    return str(error.value)


def changed(folder, line):
    """Writes a file that changes a line of base.py's settings; returns its --config."""
    (folder / "mine.py").write_text(CHANGED.format(line))
    return f"--config={folder}/mine.py"


def copied(folder, old, new):
    """Writes a copy of base.py with another text in one place; returns its --config."""
    text = (TOP / "configs" / "base.py").read_text()
    assert text.count(old) == 1
    (folder / "mine.py").write_text(text.replace(old, new))
    return f"--config={folder}/mine.py"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("config.optim.lr = 0.1", "sets optim.lr, which is no setting; did you mean optim.learn"),
        ("config.data.augment.flp = True", "did you mean data.augment.flip?"),
        ("config.qqq = 1", "sets qqq, which is no setting; every key is declared in configs/base"),
    ],
)
def test_a_misspelt_key_in_a_config_file_is_named(line, said, tmp_path):
    assert said in refusal(changed(tmp_path, line))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("config.data.batch_size = '64'", "TypeError: Could not override field 'batch_size'"),
        (
            "config.train.steps = 1.5",
            "TypeError: Could not override field 'steps' (reference). 1.5",
        ),
        ("int('five')", "ValueError: invalid literal for int() with base 10: 'five'"),
        ("config.seed = {}['seed']", "KeyError: 'seed'"),
        ("config.seed = 1 / 0", "ZeroDivisionError: division by zero"),
        ("config.seed = = 1", "SyntaxError: invalid syntax"),
        ("import nosuch", "ModuleNotFoundError: No module named 'nosuch'"),
    ],
)
def test_a_config_file_that_raises_is_named_with_its_line(line, said, tmp_path):
    """Two kinds of error came with their traceback, the others without a place."""
    found = refusal(changed(tmp_path, line))
    place = "" if "Syntax" in said else ", line 6"  # the text of a syntax error names its line
    assert found.startswith(f"{tmp_path}/mine.py{place}: {said}")
    assert found.endswith("; correct the file") and "Traceback" not in found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("data.batch_size =", "data.batch_sise =", "did you mean data.batch_size?"),
        (
            "    data.batch_size =",
            "    batch_size =",
            "lacks data.batch_size; add it, as in",
        ),
        (
            "batch_size = 32 ",
            "batch_size = '32' ",
            "batch_size='32' has to be of the type int",
        ),
        (
            "batch_size = 32 ",
            "batch_size = 32.5 ",
            "batch_size=32.5 has to be of the type int",
        ),
        ("batch_size = 32 ", "batch_size = True ", "batch_size=True has to be of the type int"),
        ("width = 0.25 ", "width = (0.25,) ", "model.width=(0.25,) has to be of the type float"),
        ("width = 0.25 ", "width = None ", "model.width=None has to be of the type float"),
        ("flip = False", "flip = 1", "data.augment.flip=1 has to be of the type bool"),
        ("(1.0, 1.0, 1.0)", "1.0", "data.input_scale=1.0 has to be of the type tuple"),
        ("model.towers = config_dict.placeholder(int)", "model.towers = 'two'", "the type int"),
    ],
)
def test_a_copy_of_the_base_config_keeps_its_keys_and_types(old, new, said, tmp_path):
    """A copy has no base whose types its own assignments are compared with."""
    assert said in refusal(copied(tmp_path, old, new))


def test_a_copy_of_the_base_config_may_have_other_values(tmp_path):
    assert parse(copied(tmp_path, "train.epochs = 30.0", "train.epochs = 3")).train.epochs == 3
    towers = "model.towers = config_dict.placeholder(int)"
    assert parse(copied(tmp_path, towers, "model.towers = 1")).model.towers == 1


@pytest.mark.parametrize(("returned", "kind"), [("{'seed': 1}", "dict"), ("None", "NoneType")])
def test_a_file_that_returns_something_else_is_no_config(returned, kind, tmp_path):
    (tmp_path / "mine.py").write_text(f"def get_config():\n    return {returned}\n")
    line = refusal(f"--config={tmp_path}/mine.py")
    assert f"mine.py returns a {kind}, not a ConfigDict; begin with" in line


@pytest.mark.parametrize("key", ["towers", "lrn", "dropout"])
def test_the_config_of_a_run_knows_the_types_of_what_is_not_set(key, tmp_path):
    """JSON has lost them."""
    config = base.get_config()
    config.model.num_classes = 10
    write_config(tmp_path, config)
    line = refusal(f"--config={tmp_path}/config.json", f"--config.model.{key}=two")
    assert f"--config.model.{key}=two" in line or f"config.model.{key}" in line
