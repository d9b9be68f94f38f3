"""The collection `backfills`: what was asked for, so that what is missing can be computed at any time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from worker.storage.mongo import Document, Mongo, translate_errors


class BackfillStore:
    """Requests for backfills. Every method raises MongoUnavailable."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self.collection = mongo.database["backfills"]

    def save(self, backfill_id: str, request: Document) -> None:
        """Keep the request; the same request again replaces it."""
        again = {"$set": request, "$unset": {"finished_at": ""}}
        with translate_errors():
            self.collection.update_one({"_id": backfill_id}, again, upsert=True)

    def all(self, *, unfinished: bool = False) -> list[Document]:
        """Every request, or those not known to be finished; the latest first."""
        query = {"finished_at": {"$exists": False}} if unfinished else {}
        with translate_errors():
            return list(self.collection.find(query).sort("requested_at", -1))

    def finish(self, request: Document, at: datetime) -> None:
        """Note that the request, as `all` returned it, lacks nothing, unless it was repeated or reopened.

        Only a cache, so that the sweep need not compute it every minute: what counts is what is stored.
        """
        unchanged = {name: request.get(name) for name in ("_id", "requested_at", "reopened")}
        with translate_errors():
            self.collection.update_one(unchanged, {"$set": {"finished_at": at}})

    def correct_date(self, backfill_id: str, requested_at: datetime) -> None:
        """Replace a request's date that is too far in the future to be believed."""
        ahead = {"_id": backfill_id, "requested_at": {"$gt": self._mongo.latest()}}
        with translate_errors():
            self.collection.update_one(ahead, {"$set": {"requested_at": requested_at}})

    @contextmanager
    def reopening(self) -> Iterator[None]:
        """The block makes pages missing: backfills noted as finished may not be.

        Noted before it, since the block may fail half-way, and after it, since a sweep in between may not
        have seen the change.
        """
        self._reopen()
        try:
            yield
        finally:
            self._reopen()

    def _reopen(self) -> None:
        with translate_errors():
            self.collection.update_many({}, {"$inc": {"reopened": 1}, "$unset": {"finished_at": ""}})
