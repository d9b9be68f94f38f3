"""The collection `failures`: pages and movies in quarantine, each with the response that failed."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from worker.errors import NotEver
from worker.keys import Fetch, Key, MovieKey, parse_key
from worker.records import Response
from worker.storage.documents import ANY_TIME, OF_MOVIES, log_unreadable, movie_ids, parse_id
from worker.storage.mongo import EPOCH, Document, Mongo, translate_errors
from worker.storage.requests import RequestStore

#: Bytes of a failed response's body that are kept.
KEPT_BODY = 64 * 1024
#: Headers that say nothing about the page, and may say something about us.
_DROPPED_HEADERS = {"set-cookie", "authorization"}
#: Shown for what a failure lacks.
_DEFAULTS: Document = {"class": "unknown", "reason": "", "status": 0, "attempts": 0, "options": ()}


class FailureStore:
    """The quarantine. Every method raises MongoUnavailable."""

    def __init__(self, mongo: Mongo, requests: RequestStore) -> None:
        self._mongo, self._requests = mongo, requests
        self.collection = mongo.journalled["failures"]

    def add(self, fetch: Fetch[Key], failure: NotEver, at: datetime) -> None:
        """Quarantine the page or movie, with the response."""
        key = fetch.key
        response = failure.response or Response(0, b"")
        headers = {
            _storable(name): _storable(value)
            for name, value in response.headers.items()
            if name.lower() not in _DROPPED_HEADERS
        }
        facts = {
            **key._asdict(),
            "options": list(fetch.options),
            "class": type(failure).__name__.lower(),
            "reason": _storable(str(failure)[:500]),
            "status": response.status,
            "headers": headers,
            "body": response.body[:KEPT_BODY],
        }
        update = {"$set": facts, "$inc": {"attempts": 1}, "$min": {"first_at": at}, "$max": {"last_at": at}}
        with translate_errors():
            ahead = {"_id": key.id, "last_at": {"$gt": self._mongo.latest()}}
            self.collection.update_one(ahead, {"$set": {"last_at": at}})
            self.collection.update_one({"_id": key.id}, update, upsert=True)

    def get(self, key: Key) -> Document | None:
        """The failure, body included."""
        with translate_errors():
            return self.collection.find_one({"_id": key.id})

    def failed(self, ids: list[str], fresh_after: datetime | None) -> set[str]:
        """Those of the ids that are in quarantine; with `fresh_after`, since then."""
        times = self._mongo.since(fresh_after) if fresh_after else ANY_TIME
        with translate_errors():
            found = self.collection.find({"_id": {"$in": ids}, "last_at": times}, {"_id": 1})
            return {failure["_id"] for failure in found}

    def times(self, ids: Iterable[str]) -> dict[str, datetime]:
        """When those of the ids that are in quarantine failed last; times in the future are ignored."""
        times = self._mongo.since(EPOCH)
        found: dict[str, datetime] = {}
        for batch in self._mongo.batches(ids):
            with translate_errors():
                failures = self.collection.find({"_id": {"$in": batch}, "last_at": times}, {"last_at": 1})
                found.update((failure["_id"], failure["last_at"]) for failure in failures)
        return found

    def failed_after(self, moment: datetime) -> dict[str, datetime]:
        """When those failed last that failed after that moment, by id; the latest last."""
        query = {"last_at": {"$gt": moment, "$lte": self._mongo.latest()}}
        with translate_errors():
            failures = self.collection.find(query, {"last_at": 1}).sort("last_at", 1)
            return {failure["_id"]: failure["last_at"] for failure in failures}

    def movies_failed_since(self, moment: datetime) -> set[int]:
        """Ids of the movies that failed since then."""
        query = {"_id": OF_MOVIES, "last_at": self._mongo.since(moment)}
        with translate_errors():
            return movie_ids(self.collection.find(query, {"_id": 1}))

    def quarantined(self) -> dict[Key, Document]:
        """All in quarantine that were not stored since, without bodies."""
        found: dict[Key, Document] = {}
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

    def release(self, failures: Mapping[Key, Document]) -> None:
        """Take them out of quarantine unless they failed again since; backfills lack them from now on."""
        with self._requests.reopening(), translate_errors():
            for key, failure in failures.items():
                self.collection.delete_one({"_id": key.id, "last_at": failure["last_at"]})

    def _stored_at(self, failures: Mapping[Key, Document]) -> dict[Key, datetime]:
        """When those that are stored were last requested; of a movie, its details if it failed with them."""
        stored: dict[Key, datetime] = {}
        whole = {
            key for key, failure in failures.items() if any(part is not None for part in failure["options"])
        }
        for batch in self._mongo.batches(failures):
            movies = [key for key in batch if isinstance(key, MovieKey)]
            wanted: dict[str, dict[Any, Key]] = {
                "pages": {key.id: key for key in batch},
                "movies": {key.movie_id: key for key in movies if key not in whole},
                "details": {key.movie_id: key for key in movies if key in whole},
            }
            for name, keys in wanted.items():
                field = "fetched_at" if name == "pages" else "_meta.fetched_at"
                query = {"_id": {"$in": list(keys)}, field: ANY_TIME}
                with translate_errors():
                    for found in self._mongo.database[name].find(query, {field: 1}):
                        at = found.get("fetched_at") or found["_meta"]["fetched_at"]
                        stored[keys[found["_id"]]] = at
        return stored


def _storable(text: str) -> str:
    """The text as BSON can hold it: TMDB's may contain lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()
