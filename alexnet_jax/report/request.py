"""The flags of report, checked before anything is loaded."""

from dataclasses import dataclass
from pathlib import Path

from absl import flags

from alexnet_jax.errors import UserError
from alexnet_jax.predict.request import check_file
from alexnet_jax.runs.workdir import check_is_workdir, check_restorable, read_config

PAGE = (".html",)
DEFAULT = "report.html"  # in the workdir of a single run


@dataclass(frozen=True)
class Request:
    """A validated request.

    Attributes:
      workdirs: of the runs.
      labels: a name for each, all different.
      output: the file to write.
    """

    workdirs: tuple[Path, ...]
    labels: tuple[str, ...]
    output: Path


def check(values: flags.FlagValues) -> Request:
    """Returns the request that the flags describe.

    Raises:
      UserError: no run, a folder that is no run's workdir or has no intact checkpoint, or an output
        that cannot be written.
    """
    if not values.workdir:
        raise UserError("--workdir is missing; give a run's workdir, or several, see --help")
    workdirs = tuple(Path(name).expanduser() for name in values.workdir)
    for path in workdirs:
        check_is_workdir(path)
        check_restorable(path)
        read_config(path)
    # Resolved, because a link is the same run as its target.
    if len({path.resolve() for path in workdirs}) < len(workdirs):
        raise UserError("--workdir names a run twice; leave one of them out")
    if not values.output and len(workdirs) > 1:
        raise UserError("--output is missing; of several runs, say where, as --output=report.html")
    # Set as if it were given, so that it is checked like any other.
    if not values.output:
        values.output = str(workdirs[0] / DEFAULT)
    return Request(workdirs, labels_of(workdirs), check_file(values, "output", PAGE))


def labels_of(workdirs: tuple[Path, ...]) -> tuple[str, ...]:
    """Returns a label for each run: the folders' names, or the paths if two names are the same."""
    names = tuple(path.resolve().name for path in workdirs)
    return names if len(set(names)) == len(names) else tuple(map(str, workdirs))
