"""The --config flag: a Python file or a run's config.json, and overrides --config.key=value."""

import difflib
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from alexnet_jax.errors import UserError
from alexnet_jax.runs import rules
from alexnet_jax.runs.declared import CONFIGS, declared, missing_key, wrong_type
from alexnet_jax.runs.workdir import CONFIG, read_config, workdir_of

HELP = (
    "The experiment's file, or the config.json of a run; --config.key=value overrides one of its "
    "settings."
)
EVERY_KEY = "; every key is declared in configs/base.py"
# Matches --config.key=value, and --noconfig.key of a switch, as (key, "=value" or "").
OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)(.*)")
# Similarity, from 0 to 1, from which a key is proposed in place of an unknown key, and of an
# unknown flag, which is less likely to be meant as a key.
LIKE_A_KEY, LIKE_A_FLAG = 0.7, 0.8


class ConfigParser(flags.ArgumentParser):
    """Parser of the flag's value: it loads a Python file, or the resolved config of a run."""

    def __init__(self, python: flags.ArgumentParser) -> None:
        self.python = python  # ml_collections' parser, for Python files

    def parse(self, path: str) -> ConfigDict:
        """Returns the config, locked: keys cannot be added.

        Raises:
          UserError: a Python file that raises, or that has other keys or types than
            configs/base.py; a JSON file that is not a run's config.json.
        """
        if not path.endswith(".json") or not Path(path).exists():
            if str(CONFIGS.parent) not in sys.path:  # it imports configs.base, from any folder
                sys.path.append(str(CONFIGS.parent))
            try:
                config = self.python.parse(path)
            except Exception as error:  # the file is the user's code and may raise any
                raise UserError(fault_of_file(path, error)) from error
            check_declared(config, path)
            return config
        if Path(path).name != CONFIG:
            raise UserError(f"--config={path} has to be a Python file or a run's {CONFIG}")
        return overridable(read_config(Path(path).parent)).lock()


def fault_of_file(path: str, error: Exception) -> str:
    """Returns a line on the error that a Python file raised, with the line of the file."""
    # ml_collections wraps two kinds of errors in new ones, with the full traceback as the text.
    if str(error).startswith("Error whilst parsing config file") and error.__context__:
        error = error.__context__
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    place = f"{path}, line {lines[-1]}" if lines else path
    # As at the end of a traceback: the kind, and the text if there is one.
    said = traceback.format_exception_only(error)[-1].strip()
    return f"{place}: {said}; correct the file"


def overridable(config: ConfigDict, prefix: str = "") -> ConfigDict:
    """Returns the config with every None as a placeholder, which an override can replace.

    JSON has lost the type of a None; it is that of the key in configs/base.py.
    """
    for key, value in list(config.items()):
        if isinstance(value, ConfigDict):
            overridable(value, f"{prefix}{key}.")
        elif value is None:
            kind, _ = declared().get(prefix + key, (object, None))
            config[key] = config_dict.placeholder(kind)
    return config


def check_declared(config: Any, file: str) -> None:
    """Raises UserError unless a config file has the keys of configs/base.py, with their types.

    A file may add any key to a ConfigDict, and one that is misspelt would have no effect.
    """
    hasattr(config, "items")  # of a file that could not be loaded, this raises the reason
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"get_config() in {file} returns a {type(config).__name__}, not a ConfigDict; begin "
            "with config = base.get_config()"
        )
    values, known = dict(rules.flat(config)), declared()
    for key in sorted(values.keys() - known.keys()) if known else ():
        near = nearest(key, known, LIKE_A_KEY)
        meant = f"; did you mean {near}?" if near else EVERY_KEY
        raise UserError(f"{file} sets {key}, which is no setting{meant}")
    if key := missing_key(values):
        _, default = known[key]
        raise UserError(f"{file} lacks {key}; add it, as in configs/base.py: {default!r}")
    if line := wrong_type(values):
        raise UserError(f"{file}: {line}")


def define(values: flags.FlagValues, argv: Sequence[str]) -> None:
    """Declares --config and the overrides that `argv` contains."""
    config_flags.DEFINE_config_file(
        "config", help_string=HELP, flag_values=values, sys_argv=list(argv)
    )
    # ml_collections reads Python files only, and has no other place for a parser.
    values["config"].parser = ConfigParser(values["config"].parser)


def count(argv: Iterable[str]) -> int:
    """Returns how many times the command line has --config."""
    return sum(bool(re.match(r"--?config(=|$)", x)) for x in argv)


def is_given(argv: Iterable[str]) -> bool:
    """True if the command line has --config."""
    return count(argv) > 0


def with_default(argv: Sequence[str], file: str) -> list[str]:
    """Returns the command line, with --config=FILE of the checkout's configs/ if it has none."""
    if is_given(argv) or not (CONFIGS / file).is_file():
        return list(argv)
    return [argv[0], f"--config={CONFIGS / file}", *argv[1:]]  # absl wants it before its overrides


def named_run(values: flags.FlagValues) -> Path | None:
    """Returns the workdir of the first --checkpoint, or --workdir; None if neither is given."""
    for name in ("checkpoint", "workdir"):
        named = values[name].value if name in values else None
        if named:
            return workdir_of(Path(named[0] if isinstance(named, list) else named))
    return None


def keys(argv: Sequence[str]) -> list[str]:
    """Returns every key of the config that --config names; none if it cannot be loaded."""
    values = flags.FlagValues()
    # Without the overrides, one of which is wrong: parsing them would fail again.
    alone = [x for x in argv if not OVERRIDE.match(x)]
    define(values, alone)
    try:
        values(alone, known_only=True)
        return [key for key, _ in rules.flat(values.config)]
    except Exception:  # a config file may raise any; the caller reports the first one
        return []


def unknown_key(argv: Iterable[str], known: Sequence[str]) -> str | None:
    """Returns a line on the first override whose key is not known; None if all are known."""
    for match in filter(None, map(OVERRIDE.match, argv)):
        key, value = match.groups()
        # A section, such as --config.model, is no unknown key.
        if known and not any(f"{x}.".startswith(f"{key}.") for x in known):
            meant = proposal(key, value, known, LIKE_A_KEY)
            return f"{match[0]}: there is no key {key}{meant or EVERY_KEY}"
    return None


def proposal(name: str, value: str, known: Iterable[str], least: float) -> str:
    """Returns "; did you mean --config.KEY=value?" for the most similar key; "" if none is."""
    near = nearest(name, known, least)
    return f"; did you mean --config.{near}{value}?" if near else ""


def nearest(name: str, known: Iterable[str], least: float) -> str:
    """Returns the most similar key; "" if none is similar enough."""
    near = max(known, key=lambda key: similarity(name, key), default="")
    return near if near and similarity(name, near) >= least else ""


def similarity(name: str, key: str) -> float:
    """Returns the similarity of a name and a key, from 0 to 1.

    Nine tenths are that of their last parts, by letters or with the key's initials (lr is
    learning_rate); one tenth is for the same section.
    """
    (section, _, last), (own_section, _, own) = name.rpartition("."), key.rpartition(".")
    initials = "".join(word[0] for word in own.split("_"))
    alike = max(difflib.SequenceMatcher(None, last, x).ratio() for x in (own, initials))
    return 0.9 * alike + 0.1 * (section == own_section)
