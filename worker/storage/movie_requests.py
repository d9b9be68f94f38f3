"""The collection `movie_requests`: movies to fetch.

They are kept here since, unlike missing pages, they cannot be computed from what is stored. A request holds
the movie's id, `since` (its details must be requested from TMDB then or later), `details` (keep the whole
document) and `append` (the parts to request with it). It is removed when the movie is stored, gone or in
quarantine.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from worker.keys import MovieKey
from worker.storage.mongo import DUPLICATE, Document, Mongo, batches, translate_errors

#: Requests in one round trip.
_BATCH = 1_000


class MovieRequest(NamedTuple):
    """What is requested of one movie."""

    since: datetime
    details: bool
    append: tuple[str, ...]


class MovieRequestStore:
    """Requests for single movies. Every method raises MongoUnavailable."""

    def __init__(self, mongo: Mongo) -> None:
        self._requests = mongo.database["movie_requests"]
        # A new request must not be lost; one whose removal is lost is fulfilled twice, which does no harm.
        self._journalled = mongo.journalled["movie_requests"]

    def add(
        self, ids: Iterable[int], since: datetime, *, details: bool = False, append: Sequence[str] = ()
    ) -> int:
        """Request the movies, or widen the requests that exist; returns how many."""
        fields = {"since": since, "details": details, "append": list(append)}
        widen: Document = {"$max": {"since": since}, "$addToSet": {"append": {"$each": list(append)}}}
        if details:
            widen["$set"] = {"details": True}
        added = 0
        for batch in batches(ids, _BATCH):
            with translate_errors():
                known = self._insert([{"_id": id_, **fields} for id_ in batch])
                if known:
                    updates = [UpdateOne({"_id": id_}, widen) for id_ in known]
                    self._journalled.bulk_write(updates, ordered=False)
            added += len(batch)
        return added

    def get(self, movie_id: int) -> MovieRequest | None:
        """What is requested of the movie; None for nothing."""
        with translate_errors():
            row = self._requests.find_one({"_id": movie_id})
        return MovieRequest(row["since"], row["details"], tuple(sorted(row["append"]))) if row else None

    def first(self, limit: int) -> list[MovieKey]:
        """At most `limit` of the requested movies."""
        with translate_errors():
            return [MovieKey(row["_id"]) for row in self._requests.find({}, {"_id": 1}).limit(limit)]

    def count(self) -> int:
        """How many movies are requested, by the collection's metadata; 0 only when there are none."""
        with translate_errors():
            counted = self._requests.estimated_document_count()
            return counted or int(bool(self._requests.find_one({}, {"_id": 1})))

    def fulfil(self, key: MovieKey, request: MovieRequest) -> None:
        """Remove the request unless it was widened meanwhile."""
        unchanged = {
            "since": request.since,
            "details": request.details,
            "append": {"$size": len(request.append)},
        }
        with translate_errors():
            self._requests.delete_one({"_id": key.movie_id, **unchanged})

    def remove(self, key: MovieKey) -> None:
        """Remove the request, even one that was widened meanwhile."""
        with translate_errors():
            self._requests.delete_one({"_id": key.movie_id})

    def _insert(self, rows: list[Document]) -> list[int]:
        """Insert the rows; returns the ids of those that existed already."""
        try:
            self._journalled.insert_many(rows, ordered=False)
        except BulkWriteError as error:
            errors = error.details["writeErrors"]
            if {write["code"] for write in errors} != {DUPLICATE}:
                raise
            return [rows[write["index"]]["_id"] for write in errors]
        return []
