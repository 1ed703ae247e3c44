"""The start and the end of every command: flags, --help, and a user's mistake in one line."""

import logging
import os
import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags
from absl import logging as absl_logging

from alexnet_jax import environment
from alexnet_jax.cli import config_flag, machine_errors
from alexnet_jax.errors import UserError, is_utf8, stop
from alexnet_jax.runs import rules
from alexnet_jax.runs.workdir import CONFIG

DefineFlags = Callable[[flags.FlagValues], None]


class PathsParser(flags.ListParser):
    """Parser of paths with commas between them; a value that is one existing path stays whole."""

    def parse(self, argument: str | list[str]) -> list[str]:
        """Returns the paths."""
        is_one = isinstance(argument, str) and os.path.exists(argument)
        return [argument] if is_one else super().parse(argument)


def define_paths(name: str, default: Sequence[str], text: str, flag_values: Any) -> None:
    """Declares a flag whose value is a list of paths."""
    serializer = flags.CsvListSerializer(",")
    flags.DEFINE(PathsParser(), name, list(default), text, flag_values, serializer)


def define(values: flags.FlagValues, table: Mapping[str, tuple[Any, str]]) -> None:
    """Declares flags from a table of name: (default, help).

    The default gives the type: a list stands for words, a tuple for paths.
    """
    kinds = {
        str: flags.DEFINE_string,
        int: flags.DEFINE_integer,
        list: flags.DEFINE_list,
        tuple: define_paths,
    }
    for name, (default, text) in table.items():
        kinds[type(default)](name, default, text, flag_values=values)


def _declared(
    define_flags: DefineFlags, with_config: bool, argv: Sequence[str]
) -> flags.FlagValues:
    """Declares the flags of a command, and --config with the overrides in `argv` if it has one."""
    values = flags.FlagValues()
    define_flags(values)
    if with_config:
        config_flag.define(values, argv)
    return values


def checked_text(argument: str) -> str:
    """Returns the argument; raises UserError unless it is UTF-8, as checkpoints' paths must be."""
    if not is_utf8(argument):
        raise UserError(f"argument {argument!a} is not UTF-8; rename the file or folder")
    return argument


def expand_home(argument: str) -> str:
    """Returns an argument such as --flag=~/a,~/b with the home folder in place of each leading ~.

    A shell expands only a ~ at the start of a word.

    Raises:
      UserError: a home folder that is not known.
    """
    return re.sub(r"(^|[=,])(~[^/=,]*)", lambda match: match[1] + home(match[2]), argument)


def home(short: str) -> str:
    """Returns the folder that ~ or ~user stands for; raises UserError if it is not known."""
    folder = os.path.expanduser(short)
    if folder == short:
        raise UserError(f"no home folder is known for {short}; write the path in full")
    return folder


def parse(
    argv: Sequence[str], define_flags: DefineFlags, *, with_config: bool = False
) -> flags.FlagValues:
    """Returns the flags of a command line.

    A ~ that begins a value, on the command line or in the config, is the home folder. Without
    --config, the run that --checkpoint or --workdir names brings its own config.

    Raises:
      UserError: unknown flags, config keys or files, values of the wrong type, stray arguments.
    """
    # Other commands may read files whose names are not UTF-8: only checkpoints cannot have them.
    argv = [argv[0], *map(expand_home, map(checked_text, argv[1:]) if with_config else argv[1:])]
    if with_config and config_flag.count(argv) > 1:
        raise UserError("--config is given more than once; give it once")
    try:
        if with_config and not config_flag.is_given(argv):
            argv = _with_config_of_run(argv, define_flags)
        values = _declared(define_flags, with_config, argv)
        rest = values(argv)
        config = values.config if with_config else None
        if config is not None:  # a file that could not be loaded raises only when it is used
            for key, value in rules.flat(config):
                if isinstance(value, str) and value.startswith("~"):
                    config.update_from_flattened_dict({key: expand_home(value)})
    except UserError:
        raise
    except Exception as error:  # absl and ml_collections raise a dozen kinds, a config file any
        raise UserError(_explained(error, argv, with_config)) from error
    if rest[1:]:
        raise UserError(f"argument {rest[1]!r} is not understood; flags start with --")
    for name in values:
        if isinstance(values[name].value, list) and "" in values[name].value:
            given = ",".join(values[name].value)
            raise UserError(f"--{name}={given} has nothing beside a comma; leave the comma out")
    return values


def _with_config_of_run(argv: Sequence[str], define_flags: DefineFlags) -> list[str]:
    """Returns the command line with --config=FILE of the run that it names.

    Raises:
      UserError: it names no run, or one without a config.json.
    """
    # --config is not declared yet: its overrides are passed over, and read with the file.
    values = flags.FlagValues()
    define_flags(values)
    values(argv, known_only=True)
    run = config_flag.named_run(values)
    if run is None or not (run / CONFIG).is_file():
        missing = f" ({run} has no {CONFIG})" if run else ""
        raise UserError(f"--config is missing; give a file, such as configs/base.py{missing}")
    return [argv[0], f"--config={run / CONFIG}", *argv[1:]]


def _explained(error: Exception, argv: Sequence[str], with_config: bool) -> str:
    """Returns one line that says which flag is wrong."""
    text = " ".join(str(error).split()) or type(error).__name__
    keys = config_flag.keys(argv) if with_config else []
    if isinstance(error, flags.UnrecognizedFlagError):
        value = next((x for x in argv if x.lstrip("-").startswith(error.flagname)), "")
        value = "".join(value.partition("=")[1:])
        # Often a key of the config without its --config. in front.
        meant = config_flag.proposal(error.flagname, value, keys, config_flag.LIKE_A_FLAG)
        return text + (meant or "; see --help")
    if isinstance(error, flags.Error):
        return f"{text}; see --help"
    if isinstance(error, OSError):
        named = [x.split("=", 1)[1] for x in argv if x.startswith("--config=")]
        missing = f"config file {''.join(named)!r} cannot be read; name one such as configs/base.py"
        return machine_errors.explanation(error) or missing
    given = [x for x in argv if x.startswith("--config")]
    return (
        config_flag.unknown_key(argv, keys)
        or f"{text} (in {' '.join(given)}{config_flag.EVERY_KEY})"
    )


def help_text(define_flags: DefineFlags, doc: str, *, with_config: bool = False) -> str:
    """Returns what --help prints: the command's own text, then its flags."""
    values = _declared(define_flags, with_config, [])
    lines = [doc.strip(), "", "Flags:"]
    for name in sorted(values):
        text = f"  --{name}: {values[name].help or ''}{default_of(values[name])}"
        lines.append(textwrap.fill(text, 80, subsequent_indent=" " * 6, break_on_hyphens=False))
    return "\n".join(lines)


def default_of(flag: flags.Flag) -> str:
    """Returns a sentence on a flag's default; "" for a switch, and if nothing is the default."""
    default = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
    if flag.boolean or default in (None, ""):
        return ""
    return f" Default: {default:g}." if isinstance(default, float) else f" Default: {default}."


def open_standard_streams() -> None:
    """Opens stdin, stdout and stderr on os.devnull if they are closed, as by `>&-` in a shell.

    Otherwise the next files that are opened, such as checkpoints, would get their numbers, and the
    output of libraries would be written into those files.
    """
    for number in range(3):
        if not is_open(number):
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def is_open(number: int) -> bool:
    """True if a file descriptor is open."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def run(
    main: Callable[[flags.FlagValues], int | None],
    define_flags: DefineFlags,
    doc: str,
    *,
    with_config: bool = False,
) -> None:
    """Parses the command line, runs `main` and exits with the code that it returns.

    A UserError, or an error that the user's machine causes, becomes one line on stderr and exit
    code 2. Any other exception keeps its traceback.

    Args:
      main: takes the flags; None counts as 0.
      define_flags: declares the command's flags besides --config.
      doc: text of --help above the flags.
      with_config: the command has --config.
    """
    open_standard_streams()
    # A terminal that lacks a character, such as ×, must not end a run.
    sys.stdout.reconfigure(errors="backslashreplace")
    environment.keep_freed_memory()  # before anything large is allocated
    # Orbax warns about what is intended, and logs what it also raises.
    absl_logging.set_verbosity(absl_logging.FATAL)
    # Matplotlib warns if it cannot keep its list of fonts, as without a home folder.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        if any(x in ("--help", "-h", "--helpfull", "--helpshort") for x in sys.argv[1:]):
            print(help_text(define_flags, doc, with_config=with_config), flush=True)
            sys.exit(0)
        sys.exit(main(parse(sys.argv, define_flags, with_config=with_config)))
    except UserError as error:
        stop(error)
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as in a shell
    except BrokenPipeError:
        # Python flushes stdout at its end, which would raise once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        line = machine_errors.explanation(error)
        if line is None:
            raise
        # Libraries that were interrupted would report what they leave behind.
        warnings.simplefilter("ignore")
        sys.unraisablehook = lambda _: None
        stop(line)
