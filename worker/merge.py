"""How movies merge: order-free, by compare-and-swap.

Of two versions of a movie the later `fetched_at` wins whole, ties go to the larger sha256, then to the
larger page id; `first_seen` is the smallest of all; `gone_at`, when TMDB last said that it has no such
movie, falls to a version asked for then or later. So any number of deliveries of the same answers, in
any order and interleaving, leave the same documents. Every write says what it expects to find; where
somebody else wrote meanwhile, all is read and decided again, ROUNDS times at most.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import NamedTuple

from pymongo import ReplaceOne, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from worker.answers import Page
from worker.errors import Response, StoreAway, Unstorable
from worker.mongo import Document

#: A round is lost to somebody else who wrote. So many in a row mean that what is read is not what is there.
ROUNDS = 100
_Update = ReplaceOne[Document] | UpdateOne
_DUPLICATE = 11000


class Saved(NamedTuple):
    """What saving a page changed, in movies."""

    inserted: int
    changed: int


class Version(NamedTuple):
    """One movie as one answer had it."""

    movie: Document
    fetched_at: datetime
    sha256: str
    page: str

    @property
    def rank(self) -> tuple[datetime, str, str]:
        return self.fetched_at, self.sha256, self.page

    def meta(self, stored: Document | None = None) -> Document:
        """`_meta` once this version has replaced the one whose `_meta` is `stored`."""
        earlier = stored or {}
        meta = {
            "first_seen": min(earlier.get("first_seen", self.fetched_at), self.fetched_at),
            "fetched_at": self.fetched_at,
            "page": self.page,
            "sha256": self.sha256,
        }
        if earlier.get("gone_at", self.fetched_at) > self.fetched_at:
            meta["gone_at"] = earlier["gone_at"]
        return meta

    def document(self, meta: Document) -> Document:
        return {"_id": self.movie["id"], **self.movie, "_meta": meta}


def versions_of(page_id: str, page: Page) -> dict[int, Version]:
    """By movie id; of a movie that stands twice on the page, the version that ranks higher."""
    versions: dict[int, Version] = {}
    for movie in page.results:
        version = version_of(movie, page.fetched_at, page_id, page.body)
        known = versions.get(movie["id"])
        if known is None or known.rank < version.rank:
            versions[movie["id"]] = version
    return versions


def version_of(movie: Document, fetched_at: datetime, page: str, body: bytes) -> Version:
    """The movie as the answer `body` had it; Unstorable when it has a field of ours."""
    if "_id" in movie or "_meta" in movie:
        raise Unstorable(f"movie {movie['id']} has a field of ours: _id or _meta", Response(200, body))
    text = json.dumps(movie, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return Version(movie, fetched_at, hashlib.sha256(text.encode()).hexdigest(), page)


def merge(movies: Collection[Document], versions: dict[int, Version]) -> Saved:
    """Bring `movies` to what the versions make of it; StoreAway when that comes to no end."""
    inserted = changed = 0
    for _ in range(ROUNDS):
        found = movies.find({"_id": {"$in": list(versions)}}, {"_meta": 1})
        stored = {movie["_id"]: movie["_meta"] for movie in found}
        new = [v.document(v.meta()) for id_, v in versions.items() if id_ not in stored]
        changes: list[_Update] = []
        touches: list[_Update] = []
        for id_, meta in stored.items():
            if _wins(versions[id_], meta) and _differs(versions[id_], meta):
                changes.append(_change(id_, meta, versions[id_]))
            elif touch := _touch(id_, meta, versions[id_]):
                touches.append(touch)
        done = _insert(movies, new), _write(movies, changes), _write(movies, touches)
        inserted += done[0]
        changed += done[1]
        if done == (len(new), len(changes), len(touches)):
            return Saved(inserted, changed)
        # Somebody else wrote one of them since it was read: look again.
    raise StoreAway(f"MongoDB: {ROUNDS} times in a row what was read had changed before it was written")


def _insert(movies: Collection[Document], new: list[Document]) -> int:
    """How many are new indeed, and inserted."""
    if not new:
        return 0
    try:
        return len(movies.insert_many(new, ordered=False).inserted_ids)
    except BulkWriteError as error:
        if {write["code"] for write in error.details["writeErrors"]} != {_DUPLICATE}:
            raise
        return int(error.details["nInserted"])


def _write(movies: Collection[Document], updates: list[_Update]) -> int:
    """How many found their movie as it was read."""
    return movies.bulk_write(updates, ordered=False).matched_count if updates else 0


def _change(id_: int, stored: Document, version: Version) -> _Update:
    """The whole movie anew, if its `_meta` is still what was read."""
    return _replacement({"_id": id_, "_meta": stored}, version.document(version.meta(stored)))


def _touch(id_: int, stored: Document, version: Version) -> _Update | None:
    """What the `_meta` of a movie that stays needs, if it is still what was read; None: nothing."""
    if _wins(version, stored):
        meta = version.meta(stored)
    else:
        meta = {**stored, "first_seen": min(stored["first_seen"], version.fetched_at)}
    return UpdateOne({"_id": id_, "_meta": stored}, {"$set": {"_meta": meta}}) if meta != stored else None


def _wins(version: Version, stored: Document) -> bool:
    return version.rank > (stored["fetched_at"], stored["sha256"], stored["page"])


def _differs(version: Version, stored: Document) -> bool:
    return bool(version.sha256 != stored["sha256"])


def _replacement(filter_: Document, document: Document) -> _Update:
    """The whole document anew; as a literal where a name begins with a dollar, which no replacement may."""
    if any(name.startswith("$") for name in document):
        return UpdateOne(filter_, [{"$replaceWith": {"$literal": document}}])
    return ReplaceOne(filter_, document)
