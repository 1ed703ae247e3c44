"""The three tasks of predict: classes, features and neighbours of pictures."""

from collections.abc import Sequence
from pathlib import Path

from alexnet_jax.errors import UserError
from alexnet_jax.predict import pictures, rankings, sheets
from alexnet_jax.predict.loaded_net import (
    Compute,
    LoadedNet,
    Output,
    compute_outputs,
    load_net,
    make_classifier,
    make_feature_reader,
)
from alexnet_jax.predict.neighbours import rank_neighbours
from alexnet_jax.predict.rankings import CLASSES, NEIGHBOURS, Ranking, Words
from alexnet_jax.predict.request import Request
from alexnet_jax.prepare.originals.names import class_name

MOST_ON_A_SHEET = 24  # pictures with their classes
MOST_ROWS = 12  # pictures with their neighbours


def classify(request: Request) -> None:
    """Prints or writes the likeliest classes of each picture, and draws the sheet."""
    net = load_net(request.checkpoint, request.class_names)
    outputs = _outputs(make_classifier(net, request.views), net, request.images, request)
    ranked = rankings.rank_classes(outputs, net.class_names, request.top)
    _answer(request, ranked, CLASSES, request.top)
    if request.sheet:
        shown = [_classified(net, x) for x in _on_sheet(ranked, MOST_ON_A_SHEET)]
        sheets.classes_sheet(request.sheet, shown)
        print(f"drawn: {request.sheet}")
    _say_unreadable(ranked)


def save_features(request: Request) -> None:
    """Writes a layer's output for each picture that can be read."""
    net = load_net(request.checkpoint, request.class_names)
    outputs = _outputs(make_feature_reader(net, request.layer), net, request.images, request)
    rankings.write_features(request.output, outputs, net.class_names)
    shape = next(x.values.shape for x in outputs if x.values is not None)
    print(f"{request.layer}, {'×'.join(map(str, shape))} a picture, is in {request.output}")
    _say_unreadable(outputs)


def find_neighbours(request: Request) -> None:
    """Prints or writes the nearest pictures of each picture, and draws the sheet."""
    net = load_net(request.checkpoint, request.class_names)
    compute = make_feature_reader(net, request.layer)
    # Before the queries, because without a gallery they are of no use.
    gallery = _outputs(compute, net, request.gallery, request)
    queries = _outputs(compute, net, request.images, request)
    ranked = rank_neighbours(queries, gallery, request.neighbours)
    _answer(request, ranked, NEIGHBOURS, request.neighbours)
    if request.sheet:
        rows = [_neighbour_row(net, x) for x in _on_sheet(ranked, MOST_ROWS)]
        # The columns of the further neighbours are headed 2, 3 and so on.
        others = map(str, range(2, max(map(len, rows))))
        sheets.rows_sheet(request.sheet, rows, ("picture", f"nearest in {request.layer}", *others))
        print(f"drawn: {request.sheet}")
    _say_unreadable(gallery, of="the gallery's ")
    _say_unreadable(ranked)


def _outputs(
    compute: Compute, net: LoadedNet, paths: Sequence[Path], request: Request
) -> list[Output]:
    """Returns the output for every file; raises UserError if not one of them can be read."""
    outputs = compute_outputs(compute, net, paths, request.batch_size)
    if all(output.error for output in outputs):
        raise UserError(
            f"{len(outputs)} of {len(outputs)} pictures could not be read; "
            f"{pictures.text_of(outputs[0].path)} {outputs[0].error}; give other files"
        )
    return outputs


def _answer(request: Request, ranked: Sequence[Ranking], words: Words, count: int) -> None:
    """Writes --output, or prints the table without one."""
    if request.output:
        rankings.write(request.output, ranked, words, count)
        pictures_in_words = f"{len(ranked)} picture{'s' * (len(ranked) > 1)}"
        print(f"{words.matches} of {pictures_in_words} are in {request.output}")
    else:
        print(rankings.table(ranked, words))


def _say_unreadable(results: Sequence[Ranking] | Sequence[Output], of: str = "") -> None:
    """Prints the number of files that could not be read.

    Their names and errors are printed too unless they are in the table, as those of Rankings are.
    """
    bad = [result for result in results if result.error]
    for result in bad:
        if isinstance(result, Output):
            print(f"{pictures.text_of(result.path)}: error: {result.error}")
    if bad:
        print(f"{len(bad)} of {of}{len(results)} pictures could not be read")


def _on_sheet(ranked: Sequence[Ranking], most: int) -> list[Ranking]:
    """Returns the first `most` readable pictures; prints a line if there are more."""
    good = [ranking for ranking in ranked if not ranking.error]
    if len(good) > most:
        print(f"the sheet shows the first {most} of {len(good)} pictures")
    return good[:most]


def _classified(net: LoadedNet, ranking: Ranking) -> sheets.Classified:
    """Returns a picture for the sheet. Its true class is known if its folder is named like one."""
    path = Path(ranking.path)
    name, label = Path(pictures.text_of(path)).name, _true_class(net, path)
    # Read again: only the pictures of the sheet are held in memory.
    return sheets.Classified(
        pictures.read(path, net.side).pixels, name, ranking.matches, ranking.numbers, label
    )


def _true_class(net: LoadedNet, path: Path) -> str:
    """Returns the class whose name the picture's folder has; "" if the net knows no such class."""
    folder = class_name(path.parent.name)
    return folder if folder in net.class_names else ""


def _neighbour_row(net: LoadedNet, ranking: Ranking) -> list[sheets.Captioned]:
    """Returns a picture and its neighbours for the sheet, these with their class if it is known."""
    paths = [Path(text) for text in (ranking.path, *ranking.matches)]
    name = Path(pictures.text_of(paths[0])).name
    classes = [_true_class(net, path) or "distance" for path in paths[1:]]
    near = zip(classes, ranking.numbers, strict=True)
    captions = (name, *(f"{label} {distance:.1f}" for label, distance in near))
    return [
        sheets.Captioned(pictures.read(path, net.side).pixels, caption)
        for path, caption in zip(paths, captions, strict=True)
    ]
