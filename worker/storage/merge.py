"""How movies merge: order-free, by compare-and-swap.

Of two versions of a movie the later `fetched_at` wins whole, ties go to the larger sha256, then to the
larger page id; `first_seen` is the smallest of all; `gone_at`, when TMDB last said that it has no such
movie, falls to a version asked for then or later. So any number of deliveries of the same answers, in
any order and interleaving, leave the same documents. A stored time that lies in the future was stamped by
a clock that was ahead: it counts for nothing, or newer answers would lose until that time comes.

Every write says what it expects to find; where somebody else wrote meanwhile, all is read and decided
again, ROUNDS times at most.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import NamedTuple

from pymongo import ReplaceOne, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from worker.errors import MongoUnavailable, Unstorable
from worker.records import Page, Response
from worker.storage.mongo import DUPLICATE, EPOCH, Document

#: A round is lost to somebody else who wrote. So many in a row mean that what is read is not what is there.
ROUNDS = 100
_Update = ReplaceOne[Document] | UpdateOne


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


def merge(movies: Collection[Document], versions: dict[int, Version], latest: datetime) -> Saved:
    """Bring `movies` to what the versions make of it; MongoUnavailable when that comes to no end.

    `latest`: no stored time beyond it is believed.
    """
    inserted = changed = 0
    for _ in range(ROUNDS):
        found = movies.find({"_id": {"$in": list(versions)}}, {"_meta": 1})
        stored = {movie["_id"]: movie["_meta"] for movie in found}
        new = [v.document(v.meta()) for id_, v in versions.items() if id_ not in stored]
        changes: list[_Update] = []
        touches: list[_Update] = []
        for id_, meta in stored.items():
            version, known = versions[id_], _believed(meta, latest)
            if _wins(version, known) and _differs(version, known):
                changes.append(_change(id_, meta, version.document(version.meta(known))))
            elif (touched := _touched(known, version)) != meta:
                touches.append(UpdateOne({"_id": id_, "_meta": meta}, {"$set": {"_meta": touched}}))
        done = _insert(movies, new), _write(movies, changes), _write(movies, touches)
        inserted += done[0]
        changed += done[1]
        if done == (len(new), len(changes), len(touches)):
            return Saved(inserted, changed)
        # Somebody else wrote one of them since it was read: look again.
    raise MongoUnavailable(
        f"MongoDB: {ROUNDS} times in a row what was read had changed before it was written"
    )


def _insert(movies: Collection[Document], new: list[Document]) -> int:
    """How many are new indeed, and inserted."""
    if not new:
        return 0
    try:
        return len(movies.insert_many(new, ordered=False).inserted_ids)
    except BulkWriteError as error:
        if {write["code"] for write in error.details["writeErrors"]} != {DUPLICATE}:
            raise
        return int(error.details["nInserted"])


def _write(movies: Collection[Document], updates: list[_Update]) -> int:
    """How many found their movie as it was read."""
    return movies.bulk_write(updates, ordered=False).matched_count if updates else 0


def _believed(stored: Document, latest: datetime) -> Document:
    """The `_meta` as far as its times are to be believed: any answer wins over one from beyond `latest`."""
    if max(stored["fetched_at"], stored.get("gone_at", latest)) <= latest:
        return stored
    known = {name: value for name, value in stored.items() if name != "gone_at" or value <= latest}
    return known if known["fetched_at"] <= latest else {**known, "fetched_at": EPOCH}


def _change(id_: int, stored: Document, document: Document) -> _Update:
    """The whole movie anew, if its `_meta` is still what was read."""
    return _replacement({"_id": id_, "_meta": stored}, document)


def _touched(stored: Document, version: Version) -> Document:
    """The `_meta` of a movie that stays as it is, once the version is known too."""
    if _wins(version, stored):
        return version.meta(stored)
    return {**stored, "first_seen": min(stored["first_seen"], version.fetched_at)}


def _wins(version: Version, stored: Document) -> bool:
    return version.rank > (stored["fetched_at"], stored["sha256"], stored["page"])


def _differs(version: Version, stored: Document) -> bool:
    return bool(version.sha256 != stored["sha256"])


def _replacement(filter_: Document, document: Document) -> _Update:
    """The whole document anew; as a literal where a name begins with a dollar, which no replacement may."""
    if any(name.startswith("$") for name in document):
        return UpdateOne(filter_, [{"$replaceWith": {"$literal": document}}])
    return ReplaceOne(filter_, document)
