"""The collection `wanted`: movies to fetch, for a change at TMDB cannot be computed from what is stored.

A row holds the movie's id, `since` (its details must be requested then or later), `details` (keep the whole
document) and `append` (parts to request with it). It goes when the movie is stored, gone or in quarantine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from worker.keys import MovieKey
from worker.storage.mongo import DUPLICATE, Document, Mongo, translate_errors

#: Rows in one round trip.
_BATCH = 1_000


class MovieRequest(NamedTuple):
    """What is requested of one movie."""

    since: datetime
    details: bool
    append: tuple[str, ...]


class MovieRequestStore:
    """Requests for single movies. Every method raises MongoUnavailable."""

    def __init__(self, mongo: Mongo) -> None:
        self._read = mongo.database["wanted"]
        # A request that is added must not be lost; one that is removed twice does no harm.
        self._added = mongo.journalled["wanted"]

    def add(
        self, ids: Iterable[int], since: datetime, *, details: bool = False, append: Sequence[str] = ()
    ) -> int:
        """Request the movies, or widen the requests that exist; returns how many."""
        added, rest = 0, iter(ids)
        while batch := list(islice(rest, _BATCH)):
            fields = {"since": since, "details": details, "append": list(append)}
            widen: Document = {"$max": {"since": since}, "$addToSet": {"append": {"$each": list(append)}}}
            if details:
                widen["$set"] = {"details": True}
            with translate_errors():
                known = self._insert([{"_id": id_, **fields} for id_ in batch])
                if known:
                    self._added.bulk_write([UpdateOne({"_id": id_}, widen) for id_ in known], ordered=False)
            added += len(batch)
        return added

    def get(self, movie_id: int) -> MovieRequest | None:
        """What is requested of the movie; None for nothing."""
        with translate_errors():
            row = self._read.find_one({"_id": movie_id})
        return MovieRequest(row["since"], row["details"], tuple(sorted(row["append"]))) if row else None

    def first(self, limit: int) -> list[MovieKey]:
        """At most so many of the requested movies."""
        with translate_errors():
            return [MovieKey(row["_id"]) for row in self._read.find({}, {"_id": 1}).limit(limit)]

    def count(self) -> int:
        """How many movies are requested, by the collection's metadata; 0 only when there is none."""
        with translate_errors():
            return self._read.estimated_document_count() or int(bool(self._read.find_one({}, {"_id": 1})))

    def fulfil(self, key: MovieKey, request: MovieRequest) -> None:
        """Remove the request unless it was widened meanwhile."""
        unchanged = {
            "since": request.since,
            "details": request.details,
            "append": {"$size": len(request.append)},
        }
        with translate_errors():
            self._read.delete_one({"_id": key.movie_id, **unchanged})

    def remove(self, key: MovieKey) -> None:
        """Remove the request, whatever it asks for."""
        with translate_errors():
            self._read.delete_one({"_id": key.movie_id})

    def _insert(self, rows: list[Document]) -> list[int]:
        """Insert the rows; returns the ids of those that existed already."""
        try:
            self._added.insert_many(rows, ordered=False)
        except BulkWriteError as error:
            errors = error.details["writeErrors"]
            if {write["code"] for write in errors} != {DUPLICATE}:
                raise
            return [rows[write["index"]]["_id"] for write in errors]
        return []
