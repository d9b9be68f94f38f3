"""The collection `requests`: what was asked for, from which what is missing is computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from worker.storage.mongo import Document, Mongo, translate_errors

#: Selects requests that are not cancelled.
_ACTIVE: Document = {"cancelled_at": {"$exists": False}}


class RequestStore:
    """Backfills and the other requests. Every method raises MongoUnavailable."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self.collection = mongo.database["requests"]

    def save(self, request_id: str, request: Document) -> None:
        """Save the request; the same request again replaces it, is unfinished and not cancelled."""
        again = {"$set": request, "$unset": {"finished_at": "", "ended_at": "", "cancelled_at": ""}}
        with translate_errors():
            self.collection.update_one({"_id": request_id}, again, upsert=True)

    def all(self, *, unfinished: bool = False, cancelled: bool = True) -> list[Document]:
        """All requests, or those not known to be finished, or those not cancelled; the latest first."""
        query: Document = {"finished_at": {"$exists": False}} if unfinished else {}
        if not cancelled:
            query |= _ACTIVE
        with translate_errors():
            return list(self.collection.find(query).sort("requested_at", -1))

    def get(self, request_id: str) -> Document | None:
        """The request; None when there is none."""
        with translate_errors():
            return self.collection.find_one({"_id": request_id})

    def active_ids(self) -> list[str]:
        """Ids of the requests that are not cancelled."""
        with translate_errors():
            found = self.collection.find(_ACTIVE, {"_id": 1})
            return [str(request["_id"]) for request in found]

    def cancel(self, request_id: str, at: datetime) -> None:
        """Mark the request as cancelled: nothing of it is missing until it is saved again."""
        with translate_errors():
            self.collection.update_one({"_id": request_id}, {"$set": {"cancelled_at": at}})

    def forget(self, request_id: str) -> None:
        """Delete the request, and nothing that was fetched for it."""
        with translate_errors():
            self.collection.delete_one({"_id": request_id})

    def finish(self, request: Document, at: datetime) -> None:
        """Mark the request, as `all` returned it, as finished, unless it was repeated or reopened since.

        The mark is only a cache, so that the sweep need not compute what is missing every minute. The first
        one since it was requested is also when it ended.
        """
        unchanged = {name: request.get(name) for name in ("_id", "requested_at", "reopened")}
        with translate_errors():
            self.collection.update_one(unchanged, {"$set": {"finished_at": at}, "$min": {"ended_at": at}})

    def ended(self, moment: datetime) -> list[Document]:
        """The requests of a person that ended since then, the first one first."""
        query = {"schedule_entry": "", "ended_at": self._mongo.since(moment)}
        with translate_errors():
            return list(self.collection.find(query).sort("ended_at", 1))

    def correct_date(self, request_id: str, requested_at: datetime) -> None:
        """Replace a request's date if that is too far in the future."""
        ahead = {"_id": request_id, "requested_at": {"$gt": self._mongo.latest()}}
        with translate_errors():
            self.collection.update_one(ahead, {"$set": {"requested_at": requested_at}})

    @contextmanager
    def reopening(self) -> Iterator[None]:
        """Mark all requests as unfinished, since the block makes something missing.

        Once before the block, which may fail half-way, and once after it, since a sweep in between may not
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
