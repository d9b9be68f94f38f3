"""Write a training set from the stored movies. Importing this needs pyarrow, the extra `export`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from reelhaul.training import Counts, NoMovies, write_training_set
from worker.errors import UsageError
from worker.storage.database import Storage
from worker.storage.mongo import batches

#: Documents that become one record batch: some 3 MB.
BATCH = 2_000
_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("title", pa.string()),
        ("overview", pa.string()),
        ("genre_ids", pa.list_(pa.int64())),
        ("fetched_at", pa.timestamp("ms", "UTC")),
    ]
)


def export_training_set(
    storage: Storage, target: Path, on_movie: Callable[[], None] = lambda: None
) -> Counts:
    """Write the folder `target` from every stored movie that TMDB still has.

    Raises UsageError when no movie has an overview, and when the folder cannot be written.
    """
    try:
        return write_training_set(_record_batches(storage), storage.genres.names(), target, on_movie=on_movie)
    except NoMovies:
        raise UsageError("no movie with an overview is stored: `reelhaul backfill --help`") from None
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror or error}") from None


def _record_batches(storage: Storage) -> Iterator[pa.RecordBatch]:
    for movies in batches(storage.movies.each(), BATCH):
        yield pa.RecordBatch.from_pylist([_row(movie) for movie in movies], schema=_SCHEMA)


def _row(movie: dict[str, Any]) -> dict[str, Any]:
    """What the columns can hold of a movie: TMDB's types are not promised."""
    ids = movie.get("genre_ids")
    return {
        "id": movie["_id"],
        "title": _text(movie.get("title")),
        "overview": _text(movie.get("overview")),
        "genre_ids": [id_ for id_ in ids if type(id_) is int] if isinstance(ids, list) else [],
        "fetched_at": movie.get("_meta", {}).get("fetched_at"),
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
