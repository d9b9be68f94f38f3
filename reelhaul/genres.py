"""How many movies each genre has, and how often two genres occur together."""

from collections import Counter
from itertools import combinations

import pyarrow as pa

from reelhaul.source import Source, ids_of, translated
from worker.storage.selection import ALL


def genres(url: str) -> pa.Table:
    """The genres, those with the most movies first: `id`, `name`, `movies`.

    Raises NothingStored, Unavailable, InvalidArgument.
    """
    with Source(url) as source:
        counts = _tally(source)[0]
        names = source.genre_names
        rows = [
            {"id": id_, "name": names.get(id_, f"genre {id_}"), "movies": counts[id_]}
            for id_ in sorted({*names, *counts} - {0}, key=lambda id_: (-counts[id_], id_))
        ]
    return pa.Table.from_pylist(
        rows, pa.schema([("id", pa.int64()), ("name", pa.string()), ("movies", pa.int64())])
    )


def genre_pairs(url: str) -> pa.Table:
    """Each two genres that a movie has both of, the most frequent first: `genre`, `other`, `movies`.

    Raises NothingStored, Unavailable, InvalidArgument.
    """
    with Source(url) as source:
        pairs = _tally(source)[1]
        names = source.genre_names
        rows = [
            {
                "genre": names.get(one, f"genre {one}"),
                "other": names.get(other, f"genre {other}"),
                "movies": pairs[one, other],
            }
            for one, other in sorted(pairs, key=lambda pair: (-pairs[pair], pair))
        ]
    return pa.Table.from_pylist(
        rows, pa.schema([("genre", pa.string()), ("other", pa.string()), ("movies", pa.int64())])
    )


def _tally(source: Source) -> tuple[Counter[int], Counter[tuple[int, int]]]:
    source.require_any("movies", "`reelhaul backfill --help`")
    single: Counter[int] = Counter()
    pairs: Counter[tuple[int, int]] = Counter()
    with translated():
        for movie in source.database["movies"].find(ALL.query(), {"_id": 0, "genre_ids": 1}):
            ids = ids_of(movie)
            single.update(ids)
            pairs.update(combinations(ids, 2))
    return single, pairs
