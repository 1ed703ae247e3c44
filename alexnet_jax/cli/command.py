"""How every command starts and ends: flags, --help, and a user's mistake in one line."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags, logging
from ml_collections import config_flags

from alexnet_jax import environment
from alexnet_jax.disk.full_disk import is_full
from alexnet_jax.errors import MISTAKE, UserError

DefineFlags = Callable[[flags.FlagValues], None]


def define(values: flags.FlagValues, table: Mapping[str, tuple[Any, str]]) -> None:
    """Declares flags from a table of name: (default, help); the default gives the type."""
    kinds = {str: flags.DEFINE_string, int: flags.DEFINE_integer, list: flags.DEFINE_list}
    for name, (default, text) in table.items():
        kinds[type(default)](name, default, text, flag_values=values)


def _declared(
    define_flags: DefineFlags, with_config: bool, argv: Sequence[str]
) -> flags.FlagValues:
    """The flags of a command; --config=FILE with overrides --config.key=value if it has them."""
    values = flags.FlagValues()
    define_flags(values)
    if with_config:
        config_flags.DEFINE_config_file(
            "config",
            help_string="The experiment's file; --config.key=value overrides one of its settings.",
            flag_values=values,
            sys_argv=list(argv),
        )
    return values


def parse(
    argv: Sequence[str], define_flags: DefineFlags, *, with_config: bool = False
) -> flags.FlagValues:
    """The command line as flags.

    Raises:
      UserError: unknown flags, config keys or files, values of the wrong type, stray arguments.
    """
    values = _declared(define_flags, with_config, argv)
    try:
        rest = values(list(argv))
        config = values.config if with_config else None
        if config is not None:
            config.keys()  # a file that could not be loaded says so only when it is used
    except Exception as fault:  # absl and ml_collections raise a dozen kinds, a config file any
        raise UserError(_explained(fault, argv)) from fault
    if rest[1:]:
        raise UserError(f"argument {rest[1]!r} is not understood; flags start with --")
    if with_config and config is None:
        raise UserError("--config is missing; give a file, such as --config=configs/base.py")
    return values


def _explained(fault: Exception, argv: Sequence[str]) -> str:
    """One line that says which flag is wrong."""
    text = " ".join(str(fault).split()) or type(fault).__name__
    if isinstance(fault, flags.Error):
        return f"{text}; see --help"
    if isinstance(fault, OSError):
        named = [x.split("=", 1)[1] for x in argv if x.startswith("--config=")]
        return f"config file {''.join(named)!r} cannot be read; name one such as configs/base.py"
    given = [x for x in argv if x.startswith("--config")]
    return f"{text} (in {' '.join(given)}; every key is declared in configs/base.py)"


def help_text(define_flags: DefineFlags, doc: str, *, with_config: bool = False) -> str:
    """What --help prints: the command's own text, then its flags."""
    values = _declared(define_flags, with_config, [])
    lines = [doc.strip(), "", "Flags:"]
    for name in sorted(values):
        lines.append(f"  --{name}: {' '.join((values[name].help or '').split())}")
    return "\n".join(lines)


def run(
    main: Callable[[flags.FlagValues], int | None],
    define_flags: DefineFlags,
    doc: str,
    *,
    with_config: bool = False,
) -> None:
    """Parses the command line, runs `main` and exits; a UserError is one line and code 2."""
    if any(x in ("--help", "-h", "--helpfull", "--helpshort") for x in sys.argv[1:]):
        print(help_text(define_flags, doc, with_config=with_config))
        sys.exit(0)
    environment.keep_freed_memory()
    logging.set_verbosity(logging.FATAL)  # orbax warns of what is meant and logs what it raises
    try:
        sys.exit(main(parse(sys.argv, define_flags, with_config=with_config)))
    except UserError as mistake:
        print(f"error: {' '.join(str(mistake).split())}", file=sys.stderr)
        sys.exit(MISTAKE)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as fault:
        if not is_full(fault):
            raise
        print(f"error: {fault}; make room and give the same command again", file=sys.stderr)
        sys.exit(MISTAKE)
