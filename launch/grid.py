"""The points of a sweep, from --grid or from a config file's own sweep(), and their names."""

import hashlib
import itertools
import re
import runpy
from collections.abc import Mapping, Sequence

from alexnet_jax.errors import UserError

Changes = Mapping[str, str]  # key of the config → value as on the command line
LONGEST_VALUE = 40  # characters of a value in a folder's name
LONGEST_NAME = 255  # characters of a folder's name, the limit of file systems


def is_closed(text: str) -> bool:
    """True if the text closes every quote and bracket that it opens."""
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", text)  # brackets in quotes do not count
    pairs = ("()", "[]", "{}")
    return not {"'", '"'} & set(bare) and all(bare.count(a) == bare.count(b) for a, b in pairs)


def split(text: str) -> list[str]:
    """Returns the values between commas outside brackets and quotes.

    A value that is all in quotes loses them.

    Raises:
      UserError: brackets or quotes that are not closed, or an empty value.
    """
    values, open_part = [], ""
    for piece in text.split(","):
        open_part += piece
        if is_closed(open_part):
            values.append(open_part.strip())
            open_part = ""
        else:
            open_part += ","
    if open_part:
        raise UserError("brackets or quotes are not closed")
    if not all(values):
        raise UserError("a value is empty; write '' if that is meant")
    return [re.sub(r"""^(["'])([^"']*)\1$""", r"\2", value) for value in values]


def product(grids: Sequence[str]) -> list[Changes]:
    """Returns all combinations of the grids `config.key=values`; the last key changes fastest.

    Raises:
      UserError: a grid without a key or values, or two of the same key.
    """
    values: dict[str, list[str]] = {}
    for text in grids:
        key, _, listed = text.partition("=")
        key = key.removeprefix("config.")
        if not text.startswith("config.") or not listed.strip():
            raise UserError(
                f"--grid={text} is no setting with values; "
                "write --grid=config.optim.learning_rate=0.01,0.02"
            )
        if key in values:
            raise UserError(f"--grid=config.{key} is given twice; put all values into one")
        try:
            values[key] = split(listed)
        except UserError as error:
            raise UserError(f"--grid={text}: {error}") from None
    return [dict(zip(values, x, strict=True)) for x in itertools.product(*values.values())]


def own_points(file: str) -> list[Changes]:
    """Returns the points that the sweep() of a config file yields.

    Raises:
      UserError: the file has no sweep(), or it yields something else.
    """
    # A run's config.json is data, which has no functions.
    sweep = None if file.endswith(".json") else runpy.run_path(file).get("sweep")
    if sweep is None:
        raise UserError(f"nothing to sweep: give --grid=config.key=1,2 or write sweep() in {file}")
    try:
        points = [{str(key): str(value) for key, value in x.items()} for x in sweep()]
    except Exception as error:  # sweep() is the user's code and may raise any
        form = "{'optim.learning_rate': 0.02}"
        raise UserError(f"sweep() in {file} has to yield dicts such as {form}: {error}") from error
    if not points:
        raise UserError(f"sweep() in {file} yields no point")
    return points


def swept_keys(points: Sequence[Changes]) -> list[str]:
    """Returns every key that some point changes."""
    return list(dict.fromkeys(key for point in points for key in point))


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Returns the last part of each key, or the full key if two have the same last part."""
    last = [key.split(".")[-1] for key in keys]
    return {k: word if last.count(word) == 1 else k for k, word in zip(keys, last, strict=True)}


def file_safe(value: str) -> str:
    """Returns the value if a folder's name can hold it, else what it can hold and a hash."""
    safe = re.sub(r"[^A-Za-z0-9.+_-]+", "_", value)[:LONGEST_VALUE]
    # The hash keeps values apart that differ only in what the name cannot hold.
    return value if safe == value else "-".join(filter(None, (safe.strip("_"), digest(value))))


def digest(text: str) -> str:
    """Returns six characters that differ for different texts."""
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def folder_name(name: str) -> str:
    """Returns the name, and of one that is too long for a folder its beginning and a hash."""
    end = f"-{digest(name)}"
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - len(end)] + end


def point_names(points: Sequence[Changes]) -> list[str]:
    """Returns a folder's name for each point, such as learning_rate=0.02+activation=relu.

    Names have no commas, because main's --checkpoint separates folders by commas.

    Raises:
      UserError: two points are the same.
    """
    short = short_keys(swept_keys(points))
    joined = ["+".join(f"{short[k]}={file_safe(v)}" for k, v in x.items()) for x in points]
    names = [folder_name(name) or "base" for name in joined]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"the point {name} is given twice; leave one out")
    return names
