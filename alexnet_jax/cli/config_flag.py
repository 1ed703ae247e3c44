"""The --config flag: a Python file or a run's config.json, and overrides --config.key=value."""

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from alexnet_jax.cli import rules
from alexnet_jax.errors import UserError
from alexnet_jax.runs.workdir import CONFIG, read_config, workdir_of

HELP = (
    "The experiment's file, or the config.json of a run; --config.key=value overrides one of its "
    "settings."
)
EVERY_KEY = "; every key is declared in configs/base.py"
CONFIGS = Path(__file__).parents[2] / "configs"  # of the checkout; none if it is installed alone
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
          UserError: a JSON file that is not a run's config.json.
        """
        if not path.endswith(".json") or not Path(path).exists():
            return self.python.parse(path)
        if Path(path).name != CONFIG:
            raise UserError(f"--config={path} has to be a Python file or a run's {CONFIG}")
        return overridable(read_config(Path(path).parent)).lock()


def overridable(config: ConfigDict) -> ConfigDict:
    """Returns the config with every None as a placeholder, which an override can replace."""
    for key, value in list(config.items()):
        if isinstance(value, ConfigDict):
            overridable(value)
        elif value is None:
            # JSON has lost the type, and without a placeholder no override is taken.
            config[key] = config_dict.placeholder(object)
    return config


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
            nearest = proposal(key, value, known, LIKE_A_KEY)
            return f"{match[0]}: there is no key {key}{nearest or EVERY_KEY}"
    return None


def proposal(name: str, value: str, known: Iterable[str], least: float) -> str:
    """Returns "; did you mean --config.KEY=value?" for the most similar key; "" if none is."""
    nearest = max(known, key=lambda key: similarity(name, key), default="")
    alike = nearest and similarity(name, nearest) >= least
    return f"; did you mean --config.{nearest}{value}?" if alike else ""


def similarity(name: str, key: str) -> float:
    """Returns the similarity of a name and a key, from 0 to 1.

    Nine tenths are that of their last parts, by letters or with the key's initials (lr is
    learning_rate); one tenth is for the same section.
    """
    (section, _, last), (own_section, _, own) = name.rpartition("."), key.rpartition(".")
    initials = "".join(word[0] for word in own.split("_"))
    alike = max(difflib.SequenceMatcher(None, last, x).ratio() for x in (own, initials))
    return 0.9 * alike + 0.1 * (section == own_section)
