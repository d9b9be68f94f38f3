"""The collection `failures`: pages and movies in quarantine, each with the response that failed."""

from collections.abc import Mapping
from datetime import datetime

from worker.errors import NotEver
from worker.keys import MovieKey, PageKey, parse_key
from worker.records import Response
from worker.storage.backfills import BackfillStore
from worker.storage.documents import ANY_TIME, log_unreadable, parse_id
from worker.storage.mongo import Document, Mongo, translate_errors

#: Bytes of a failed response's body that are kept.
KEPT_BODY = 64 * 1024
#: Headers that say nothing about the page, and may say something about us.
_DROPPED_HEADERS = {"set-cookie", "authorization"}
#: Shown for what a failure lacks.
_DEFAULTS: Document = {"class": "unknown", "reason": "", "status": 0, "attempts": 0}


class FailureStore:
    """The quarantine. Every method raises MongoUnavailable."""

    def __init__(self, mongo: Mongo, backfills: BackfillStore) -> None:
        self._mongo, self._backfills = mongo, backfills
        self.collection = mongo.journalled["failures"]

    def add(self, key: PageKey | MovieKey, failure: NotEver, at: datetime) -> None:
        """Quarantine the page or movie, with the response."""
        response = failure.response or Response(0, b"")
        headers = {
            _storable(name): _storable(value)
            for name, value in response.headers.items()
            if name.lower() not in _DROPPED_HEADERS
        }
        facts = {
            **key._asdict(),
            "class": type(failure).__name__.lower(),
            "reason": _storable(str(failure)[:500]),
            "status": response.status,
            "headers": headers,
            "body": response.body[:KEPT_BODY],
        }
        update = {"$set": facts, "$inc": {"attempts": 1}, "$min": {"first_at": at}, "$max": {"last_at": at}}
        with translate_errors():
            self.collection.update_one({"_id": key.id}, update, upsert=True)

    def get(self, key: PageKey | MovieKey) -> Document | None:
        """The failure, body included."""
        with translate_errors():
            return self.collection.find_one({"_id": key.id})

    def failed(self, ids: list[str], fresh_after: datetime | None) -> set[str]:
        """Those of the ids that are in quarantine; with `fresh_after`, since then."""
        times = self._mongo.since(fresh_after) if fresh_after else ANY_TIME
        with translate_errors():
            found = self.collection.find({"_id": {"$in": ids}, "last_at": times}, {"_id": 1})
            return {failure["_id"] for failure in found}

    def quarantined(self) -> dict[PageKey | MovieKey, Document]:
        """All in quarantine that were not stored since, without bodies."""
        found: dict[PageKey | MovieKey, Document] = {}
        with translate_errors():
            for failure in self.collection.find({}, {"body": 0, "headers": 0}):
                key = parse_id("failures", failure["_id"], parse_key)
                if key and isinstance(failure.get("last_at"), datetime):
                    found[key] = {**_DEFAULTS, **failure}
                elif key:
                    log_unreadable("failures", failure["_id"])
        stored, latest = self._stored_at(found), self._mongo.latest()
        return {
            key: failure
            for key, failure in found.items()
            if key not in stored or stored[key] < failure["last_at"] <= latest
        }

    def release(self, failures: Mapping[PageKey | MovieKey, Document]) -> None:
        """Take them out of quarantine unless they failed again since; backfills lack them from now on."""
        with self._backfills.reopening(), translate_errors():
            for key, failure in failures.items():
                self.collection.delete_one({"_id": key.id, "last_at": failure["last_at"]})

    def _stored_at(self, keys: Mapping[PageKey | MovieKey, Document]) -> dict[PageKey | MovieKey, datetime]:
        """When those that are stored were last requested."""
        stored: dict[PageKey | MovieKey, datetime] = {}
        database = self._mongo.database
        for batch in self._mongo.batches(keys):
            pages = {key.id: key for key in batch if isinstance(key, PageKey)}
            movies = [key.movie_id for key in batch if isinstance(key, MovieKey)]
            with translate_errors():
                times = {"_id": {"$in": list(pages)}, "fetched_at": ANY_TIME}
                for record in database["pages"].find(times, {"fetched_at": 1}):
                    stored[pages[record["_id"]]] = record["fetched_at"]
                for movie in database["movies"].find({"_id": {"$in": movies}}, {"_meta": 1}):
                    stored[MovieKey(movie["_id"])] = movie["_meta"]["fetched_at"]
        return stored


def _storable(text: str) -> str:
    """The text as BSON can hold it: TMDB's may contain lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()
