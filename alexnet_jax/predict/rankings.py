"""Best matches of each picture, likeliest classes or nearest pictures, as table, JSONL or CSV."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alexnet_jax.disk.durable import complete_file, write_text
from alexnet_jax.evaluate import top_k
from alexnet_jax.predict.columns import end
from alexnet_jax.predict.loaded_net import Output
from alexnet_jax.predict.pictures import text_of
from alexnet_jax.prepare.originals.names import readable

COLUMNS = 80  # characters on a line of the table
PATH_COLUMNS = 32
BAR_COLUMNS = 10
EIGHTHS = " ▏▎▍▌▋▊▉█"  # a column of a bar, filled by no to eight eighths


@dataclass(frozen=True)
class Words:
    """The names of a ranking's columns, match and number, in singular and plural."""

    match: str
    matches: str
    number: str
    numbers: str


CLASSES = Words("class", "classes", "probability", "probabilities")
NEIGHBOURS = Words("neighbour", "neighbours", "distance", "distances")


@dataclass(frozen=True)
class Ranking:
    """The best matches of one picture, best first.

    Paths are as the system has them, so that the files can be opened again; they are made readable
    when they are written.

    Attributes:
      path: of the picture.
      matches: names of classes, or paths of pictures.
      numbers: probability of each class, or distance of each picture.
      error: why the picture cannot be used; "" if it can.
    """

    path: str
    matches: tuple[str, ...] = ()
    numbers: tuple[float, ...] = ()
    error: str = ""


def rank_classes(outputs: Sequence[Output], class_names: Sequence[str], top: int) -> list[Ranking]:
    """Returns the `top` likeliest classes of each picture by its probabilities, likeliest first."""
    rankings = []
    for output in outputs:
        path = str(output.path)
        if output.values is None:
            rankings.append(Ranking(path, error=output.error))
            continue
        (best,) = top_k(output.values[None], top)
        names = tuple(class_names[i] for i in best)
        rankings.append(Ranking(path, names, tuple(map(float, output.values[best]))))
    return rankings


def table(rankings: Sequence[Ranking], words: Words) -> str:
    """Returns a table of at most 80 columns, a line for each match, probabilities in percent."""
    percent = words == CLASSES
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=None)
    grid.add_column("picture", no_wrap=True)
    grid.add_column(words.match)  # the one that gives way if a line is too long
    grid.add_column("%" if percent else words.number, justify="right", no_wrap=True)
    grid.add_column("", no_wrap=True)
    for ranking in rankings:
        # Of a long path the end is shown, for that is where files differ.
        path = _one_line(end(readable(ranking.path), PATH_COLUMNS))
        if ranking.error:
            grid.add_row(path, Text(f"error: {ranking.error}"))
        elif not ranking.matches:  # the gallery holds the picture itself and no other
            grid.add_row(path, "none")
        for match, number in zip(ranking.matches, ranking.numbers, strict=True):
            cells = (f"{100 * number:.1f}", _bar(number)) if percent else (f"{number:.3f}", "")
            match = match if percent else end(readable(match), PATH_COLUMNS)
            grid.add_row(path, _one_line(match), *cells)
            path = Text("")  # the path stands in the first of its rows only
    text = io.StringIO()
    # Always 80 columns, so that the output is the same in a pipe.
    Console(file=text, width=COLUMNS, highlight=False).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _one_line(text: str) -> Text:
    """Returns a text of one line; line breaks and control characters are written as in Python."""
    # A file's name may contain them, and a terminal would obey an escape code.
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return Text(shown, no_wrap=True, overflow="ellipsis")


def _bar(probability: float) -> str:
    whole, part = divmod(round(8 * BAR_COLUMNS * probability), 8)  # in eighths of a column
    return ("█" * whole + EIGHTHS[part]).rstrip()


def write(path: Path, rankings: Sequence[Ranking], words: Words, count: int) -> None:
    """Writes a .jsonl or .csv file, a line for each picture.

    JSONL: `path`, and either two lists, such as `classes` and `probabilities`, or `error`. CSV:
    `path`, then `class_1`, `probability_1` to the number `count`, then `error`.
    """
    if path.suffix == ".csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(_csv_rows(rankings, words, count))
        write_text(path, text.getvalue())
        return
    lines = (json.dumps(_json_object(x, words), ensure_ascii=False) for x in rankings)
    write_text(path, "".join(f"{line}\n" for line in lines))


def _json_object(ranking: Ranking, words: Words) -> dict[str, object]:
    path = {"path": readable(ranking.path)}
    if ranking.error:
        return path | {"error": ranking.error}
    numbers = [float(f"{x:.7g}") for x in ranking.numbers]  # the digits of a float32
    return path | {words.matches: [*map(readable, ranking.matches)], words.numbers: numbers}


def _csv_rows(rankings: Sequence[Ranking], words: Words, count: int) -> Iterator[list[str]]:
    pairs = ((f"{words.match}_{i}", f"{words.number}_{i}") for i in range(1, count + 1))
    yield ["path", *(name for pair in pairs for name in pair), "error"]
    for ranking in rankings:
        cells = []
        for match, number in zip(ranking.matches, ranking.numbers, strict=True):
            cells += [readable(match), f"{number:.7g}"]
        # Rows with an error, or with fewer matches, have as many cells as the header.
        cells += [""] * (2 * count - len(cells))
        yield [readable(ranking.path), *cells, ranking.error]


def write_features(path: Path, outputs: Sequence[Output], class_names: Sequence[str]) -> None:
    """Writes an .npz of the pictures that could be read, complete or not at all.

    It holds `features` float32 [N, …], `paths` [N], and `class_names` in the order of the net's
    outputs.
    """
    good = [output for output in outputs if output.values is not None]
    with complete_file(path) as file:
        np.savez(
            file,
            features=np.stack([output.values for output in good]),
            paths=np.array([text_of(output.path) for output in good]),
            class_names=np.array(class_names),
        )
