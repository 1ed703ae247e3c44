"""The pictures of a gallery that are nearest to each picture (paper §6.1)."""

from collections.abc import Sequence

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
    # The same file can be named in two ways, such as by a link.
    files = [path.resolve() for path in paths]
    # Brute, because trees gain nothing in 4,096 dimensions.
    index = NearestNeighbors(algorithm="brute").fit(_rows(usable))

    def rank(query: Output) -> Ranking:
        if query.values is None:
            return Ranking(str(query.path), error=query.error)
        own = query.path.resolve()
        # The query itself may be in the gallery, and is left out below.
        number = min(count + files.count(own), len(usable))
        distances, rows = index.kneighbors(_rows([query]), number)
        pairs = zip(rows[0], distances[0], strict=True)
        found = [(str(paths[row]), float(d)) for row, d in pairs if files[row] != own][:count]
        return Ranking(
            str(query.path), tuple(path for path, _ in found), tuple(d for _, d in found)
        )

    return [rank(query) for query in queries]


def _rows(outputs: Sequence[Output]) -> np.ndarray:
    return np.stack([np.ravel(output.values) for output in outputs])
