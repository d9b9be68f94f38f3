"""How movies merge: order-free, by compare-and-swap.

Of two versions of a movie the later `fetched_at` wins whole, ties go to the larger sha256, then to the
larger page id; `first_seen` is the smallest of all. So any number of deliveries of the same answers, in
any order and interleaving, leave the same documents. Every write says what it expects to find; where
somebody else wrote meanwhile, all is read and decided again.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any, NamedTuple

from pymongo import ReplaceOne, UpdateMany
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from worker.errors import Response, Unstorable
from worker.pages import PageKey
from worker.tmdb import Page

Document = dict[str, Any]
_Update = ReplaceOne[Document] | UpdateMany
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

    def document(self, first_seen: datetime) -> Document:
        meta = {
            "first_seen": first_seen,
            "fetched_at": self.fetched_at,
            "page": self.page,
            "sha256": self.sha256,
        }
        return {"_id": self.movie["id"], **self.movie, "_meta": meta}


def versions_of(key: PageKey, page: Page) -> dict[int, Version]:
    """By movie id; of a movie that stands twice on the page, the version that ranks higher."""
    versions: dict[int, Version] = {}
    for movie in page.results:
        if "_id" in movie or "_meta" in movie:
            raise Unstorable(
                f"movie {movie['id']} has a field of ours: _id or _meta", Response(200, page.body)
            )
        text = json.dumps(movie, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
        version = Version(movie, page.fetched_at, hashlib.sha256(text.encode()).hexdigest(), key.id)
        known = versions.get(movie["id"])
        if known is None or known.rank < version.rank:
            versions[movie["id"]] = version
    return versions


def merge(movies: Collection[Document], versions: dict[int, Version]) -> Saved:
    """Bring `movies` to what the versions make of it; see the module's docstring for the order."""
    inserted = changed = 0
    while True:
        found = movies.find({"_id": {"$in": list(versions)}}, {"_meta": 1})
        stored = {movie["_id"]: movie["_meta"] for movie in found}
        new = [version.document(version.fetched_at) for id_, version in versions.items() if id_ not in stored]
        updates, expected, replaced = _updates(versions, stored)
        met = True
        if new:
            try:
                movies.insert_many(new, ordered=False)
                inserted += len(new)
            except BulkWriteError as error:
                if {write["code"] for write in error.details["writeErrors"]} != {_DUPLICATE}:
                    raise
                met = False
        if updates:
            met = movies.bulk_write(updates, ordered=False).matched_count == expected and met
            changed += replaced
        if met:
            return Saved(inserted, changed)
        # Somebody else wrote one of them since we read: look again.


def _updates(versions: dict[int, Version], stored: dict[int, Document]) -> tuple[list[_Update], int, int]:
    """What the stored versions need; how many documents that must match; how many change in content."""
    updates: list[_Update] = []
    touched: dict[int, str] = {}
    seen: list[int] = []
    for id_, meta in stored.items():
        version = versions[id_]
        if version.fetched_at < meta["first_seen"]:
            seen.append(id_)
        if version.rank <= (meta["fetched_at"], meta["sha256"], meta["page"]):
            continue
        if version.sha256 == meta["sha256"]:
            touched[id_] = version.sha256
        else:
            updates.append(ReplaceOne({"_id": id_, "_meta": meta}, version.document(meta["first_seen"])))
    replaced = len(updates)
    any_version = next(iter(versions.values()), None)
    if any_version and seen:
        updates.append(
            UpdateMany({"_id": {"$in": seen}}, {"$min": {"_meta.first_seen": any_version.fetched_at}})
        )
    if any_version and touched:
        updates.append(_touch(touched, any_version))
    return updates, replaced + len(seen) + len(touched), replaced


def _touch(touched: dict[int, str], version: Version) -> UpdateMany:
    """One write for all movies that came again as they are stored.

    A digest belongs to one movie's one version, so two $in say what a filter for each would.
    """
    at, page = version.fetched_at, version.page
    unchanged_and_older = {
        "_id": {"$in": list(touched)},
        "_meta.sha256": {"$in": list(touched.values())},
        "$or": [{"_meta.fetched_at": {"$lt": at}}, {"_meta.fetched_at": at, "_meta.page": {"$lt": page}}],
    }
    return UpdateMany(unchanged_and_older, {"$set": {"_meta.fetched_at": at, "_meta.page": page}})
