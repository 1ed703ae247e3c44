"""The pictures of a gallery that are nearest to each picture (paper §6.1)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.predict.loaded_net import Output
from alexnet_jax.predict.rankings import Ranking


def rank_neighbours(
    queries: Sequence[Output], gallery: Sequence[Output], count: int
) -> list[Ranking]:
    """Ranks a gallery's pictures by the Euclidean distance of their features to each query's.

    A query that is itself in the gallery is not counted as its own neighbour.

    Args:
      queries: features of the pictures to find neighbours of; unreadable files keep their error.
      gallery: features of the pictures to choose from; at least one file is readable.
      count: neighbours of each query; fewer if the gallery is smaller.
    """
    from sklearn.neighbors import NearestNeighbors

    usable = [picture for picture in gallery if picture.values is not None]
    paths = [picture.path for picture in usable]
    # Brute, because trees gain nothing in 4,096 dimensions.
    index = NearestNeighbors(algorithm="brute").fit(_rows(usable))

    def rank(query: Output) -> Ranking:
        if query.values is None:
            return Ranking(str(query.path), error=query.error)
        # One more than asked for: the query itself may be among them.
        distances, rows = index.kneighbors(_rows([query]), min(count + 1, len(usable)))
        found = {paths[row]: float(d) for d, row in zip(distances[0], rows[0], strict=True)}
        return _ranking(query.path, found, count)

    return [rank(query) for query in queries]


def _ranking(query: Path, found: dict[Path, float], count: int) -> Ranking:
    """Returns the first `count` pictures found that are not the query's own file."""
    # The same file can be named in two ways, such as by a link.
    own = query.resolve()
    others = [path for path in found if path.resolve() != own][:count]
    return Ranking(str(query), tuple(map(str, others)), tuple(found[path] for path in others))


def _rows(outputs: Sequence[Output]) -> np.ndarray:
    return np.stack([np.ravel(output.values) for output in outputs])
