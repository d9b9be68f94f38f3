"""Merges movies by compare-and-swap, so that the order of deliveries does not matter.

Of two versions of a movie, the later `fetched_at` wins whole; ties go to the larger sha256, then to the
larger page id. `first_seen` is the smallest of all. `gone_at`, when TMDB last said that it has no such movie,
is dropped for a version requested then or later. So the same responses leave the same documents, whatever the
number, order and interleaving of their deliveries. A stored time in the future was stamped by a clock that
was ahead: it is ignored, or newer responses would lose until that time comes.

Each write names the `_meta` that it expects. If somebody else wrote meanwhile, all is read and decided again,
at most ROUNDS times.
"""

import hashlib
import json
from datetime import datetime
from typing import NamedTuple

import orjson
from pymongo import ReplaceOne, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from worker.errors import MongoUnavailable, Unstorable
from worker.records import Page, Response
from worker.storage.mongo import DUPLICATE, EPOCH, Document

#: A round is lost when somebody else writes. This many in a row mean that reads lag behind writes.
ROUNDS = 100
_Update = ReplaceOne[Document] | UpdateOne


class Saved(NamedTuple):
    """How many movies a save inserted and changed."""

    inserted: int
    changed: int


class Version(NamedTuple):
    """One movie as one response had it."""

    movie: Document
    fetched_at: datetime
    sha256: str
    page: str
    #: Of details: the parts that were requested.
    parts: tuple[str, ...] = ()

    @property
    def rank(self) -> tuple[datetime, str, str]:
        return self.fetched_at, self.sha256, self.page

    def outranks(self, stored: Document) -> bool:
        """Whether this version is newer than the one with that `_meta`."""
        return self.rank > (stored["fetched_at"], stored["sha256"], stored["page"])

    def meta(self, stored: Document | None = None) -> Document:
        """The `_meta` once this version has replaced the one whose `_meta` is `stored`."""
        earlier = stored or {}
        meta = {
            "first_seen": min(earlier.get("first_seen", self.fetched_at), self.fetched_at),
            "fetched_at": self.fetched_at,
            "page": self.page,
            "sha256": self.sha256,
        }
        if self.parts:
            meta["parts"] = list(self.parts)
        if earlier.get("gone_at", self.fetched_at) > self.fetched_at:
            meta["gone_at"] = earlier["gone_at"]
        return meta

    def document(self, stored: Document | None = None) -> Document:
        """The whole document, with `_meta` as `meta` says."""
        return {"_id": self.movie["id"], **self.movie, "_meta": self.meta(stored)}


def versions_of(page_id: str, page: Page) -> dict[int, Version]:
    """By movie id; if a movie stands twice on the page, the version that ranks higher."""
    versions: dict[int, Version] = {}
    for movie in page.results:
        version = version_of(movie, page.fetched_at, page_id, page.body)
        known = versions.get(movie["id"])
        if known is None or known.rank < version.rank:
            versions[movie["id"]] = version
    return versions


def version_of(movie: Document, fetched_at: datetime, page: str, body: bytes) -> Version:
    """The movie as the response with that body had it; Unstorable when it has a field `_id` or `_meta`."""
    if "_id" in movie or "_meta" in movie:
        raise Unstorable(f"movie {movie['id']} has a field of ours: _id or _meta", Response(200, body))
    return Version(movie, fetched_at, content_sha256(movie), page)


def content_sha256(movie: Document) -> str:
    """The hash of a list item or of details, without `_id` and `_meta`: the same for any order of the fields.

    TypeError, ValueError or RecursionError for what no JSON holds.
    """
    return hashlib.sha256(_canonical(movie)).hexdigest()


def _canonical(movie: Document) -> bytes:
    """The movie as JSON with sorted keys: the same bytes whatever the order of its fields."""
    try:
        return orjson.dumps(movie, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # integers beyond 64 bits, lone surrogates, more than 254 levels
        return json.dumps(movie, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()


def merge(
    movies: Collection[Document], versions: dict[int, Version], latest: datetime, *, all_new: bool = False
) -> Saved:
    """Merge the versions, by movie id, into the collection; stored times beyond `latest` are ignored.

    `all_new`: probably none is stored. Insert them before reading what is stored: mostly one round trip less.
    Raises MongoUnavailable after ROUNDS rounds.
    """
    inserted = changed = 0
    if all_new:
        inserted = _insert(movies, [version.document() for version in versions.values()])
        if inserted == len(versions):
            return Saved(inserted, 0)
    for _ in range(ROUNDS):
        found = movies.find({"_id": {"$in": list(versions)}}, {"_meta": 1})
        stored = {movie["_id"]: movie["_meta"] for movie in found}
        new = [version.document() for id_, version in versions.items() if id_ not in stored]
        changes: list[_Update] = []
        touches: list[_Update] = []
        for id_, meta in stored.items():
            version, known = versions[id_], _without_future_times(meta, latest)
            as_read = {"_id": id_, "_meta": meta}
            if version.outranks(known) and version.sha256 != known["sha256"]:
                changes.append(_replacement(as_read, version.document(known)))
            elif (touched := _touched(known, version)) != meta:
                touches.append(UpdateOne(as_read, {"$set": {"_meta": touched}}))
        done = _insert(movies, new), _write(movies, changes), _write(movies, touches)
        inserted += done[0]
        changed += done[1]
        if done == (len(new), len(changes), len(touches)):
            return Saved(inserted, changed)
    raise MongoUnavailable(
        f"MongoDB: {ROUNDS} times in a row what was read had changed before it was written"
    )


def _insert(movies: Collection[Document], new: list[Document]) -> int:
    """Insert; return how many were new."""
    if not new:
        return 0
    try:
        return len(movies.insert_many(new, ordered=False).inserted_ids)
    except BulkWriteError as error:
        if {write["code"] for write in error.details["writeErrors"]} != {DUPLICATE}:
            raise
        return int(error.details["nInserted"])


def _write(movies: Collection[Document], updates: list[_Update]) -> int:
    """Update; return how many movies were still as they had been read."""
    return movies.bulk_write(updates, ordered=False).matched_count if updates else 0


def _without_future_times(stored: Document, latest: datetime) -> Document:
    """The `_meta` without a `gone_at` beyond `latest`; a `fetched_at` beyond it becomes the oldest of all."""
    if max(stored["fetched_at"], stored.get("gone_at", latest)) <= latest:
        return stored
    known = {name: value for name, value in stored.items() if name != "gone_at" or value <= latest}
    return known if known["fetched_at"] <= latest else {**known, "fetched_at": EPOCH}


def _touched(stored: Document, version: Version) -> Document:
    """The `_meta` of a movie whose content the version does not change."""
    if version.outranks(stored):
        return version.meta(stored)
    return {**stored, "first_seen": min(stored["first_seen"], version.fetched_at)}


def _replacement(filter_: Document, document: Document) -> _Update:
    """Replace the document; as a literal where a name begins with a dollar, which replaceOne rejects."""
    if any(name.startswith("$") for name in document):
        return UpdateOne(filter_, [{"$replaceWith": {"$literal": document}}])
    return ReplaceOne(filter_, document)
