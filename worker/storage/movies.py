"""Single movies in MongoDB: which are wanted anew, their details, and what TMDB no longer has.

`wanted` is a to-do list, for a change at TMDB cannot be computed from what is stored: `_id` movie id,
`since` (its details must have been asked for then or later), `details` (keep the whole document),
`append` (the parts to ask for with it). A row goes when its movie is stored, gone or in quarantine.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from pymongo import UpdateOne
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from worker.keys import MovieKey
from worker.storage.merge import Saved, merge, version_of
from worker.storage.mongo import (
    AHEAD,
    AT_ONCE,
    BATCH,
    EPOCH,
    JOURNALLED,
    Document,
    dependable,
    own_now,
    patience,
    since,
    translated,
)
from worker.tmdb.responses import Details

#: What append_to_response may name for a movie (TMDB API reference, movie/details).
PARTS = (
    "alternative_titles",
    "changes",
    "credits",
    "external_ids",
    "images",
    "keywords",
    "lists",
    "recommendations",
    "release_dates",
    "reviews",
    "similar",
    "translations",
    "videos",
    "watch/providers",
)
#: Fields of details that no list item has (recorded bodies of both).
_ONLY_DETAILS = {
    "belongs_to_collection",
    "budget",
    "genres",
    "homepage",
    "imdb_id",
    "origin_country",
    "production_companies",
    "production_countries",
    "revenue",
    "runtime",
    "spoken_languages",
    "status",
    "tagline",
    *PARTS,
}
_DUPLICATE = 11000
#: Rows in one round trip.
_AT_ONCE = 1_000


class Wanted(NamedTuple):
    """One row of `wanted`."""

    since: datetime
    details: bool
    append: tuple[str, ...]


class Movies:
    """The collections `movies`, `details` and `wanted` of one database; safe for threads.

    `now` as in Store. Every method raises StoreAway when MongoDB does not answer or cannot write.
    """

    def __init__(self, database: Database[Document], now: Callable[[], datetime] = own_now) -> None:
        self._now = now
        self._database = database = dependable(database)
        self._movies = database["movies"]
        self._details = database["details"]
        self._wanted = database["wanted"]
        # What is put on the list is journalled; that a row is gone may be forgotten, and is then found out.
        self._to_do = database.get_collection("wanted", write_concern=JOURNALLED)
        self._demanded = database["demanded"]
        self._cursors = database.get_collection("cursors", write_concern=JOURNALLED)
        self._backfills = database["backfills"]

    def want(
        self, ids: Iterable[int], since: datetime, *, details: bool = False, append: Sequence[str] = ()
    ) -> int:
        """Put the movies on the list, or add to what it says of them; returns how many."""
        wanted, ids = 0, iter(ids)
        while batch := list(islice(ids, _AT_ONCE)):
            fields = {"since": since, "details": details, "append": list(append)}
            with translated():
                known = self._insert_wanted([{"_id": id_, **fields} for id_ in batch])
                more: Document = {"$max": {"since": since}, "$addToSet": {"append": {"$each": list(append)}}}
                if details:
                    more["$set"] = {"details": True}
                if known:
                    self._to_do.bulk_write([UpdateOne({"_id": id_}, more) for id_ in known], ordered=False)
            wanted += len(batch)
        return wanted

    def wanted(self, movie_id: int) -> Wanted | None:
        """What is wanted of the movie; None: nothing (any more)."""
        with translated():
            row = self._wanted.find_one({"_id": movie_id})
        return Wanted(row["since"], row["details"], tuple(sorted(row["append"]))) if row else None

    def some_wanted(self, limit: int) -> list[MovieKey]:
        """The first movies on the list."""
        with translated():
            return [MovieKey(row["_id"]) for row in self._wanted.find({}, {"_id": 1}).limit(limit)]

    def count_wanted(self) -> int:
        """How many movies are on the list, by the collection's own books; 0 only when there is none."""
        with translated():
            return self._wanted.estimated_document_count() or int(bool(self._wanted.find_one({}, {"_id": 1})))

    def done(self, key: MovieKey, row: Wanted) -> None:
        """Off the list with it, unless more is wanted by now."""
        with translated():
            parts = {"append": {"$size": len(row.append)}}
            self._wanted.delete_one(
                {"_id": key.movie_id, "since": row.since, "details": row.details, **parts}
            )

    def drop(self, key: MovieKey) -> None:
        """Off the list with it, whatever was wanted."""
        with translated():
            self._wanted.delete_one({"_id": key.movie_id})

    def parts(self, movie_id: int) -> set[str] | None:
        """The appended parts that the stored details hold; None when none are stored."""
        with translated():
            stored = self._details.find_one({"_id": movie_id}, dict.fromkeys(PARTS, 1))
        return None if stored is None else set(stored) & set(PARTS)

    def save(self, key: MovieKey, answer: Details, *, details: bool) -> Saved:
        """The list item that the answer implies, and the answer itself if `details` are to be kept.

        A movie that is not stored, and in none of the cells that were asked for, is left out, unless
        details are kept.
        """
        with translated(answer.body):
            if details:
                merge(
                    self._details,
                    {key.movie_id: version_of(answer.movie, answer.fetched_at, key.id, answer.body)},
                    self._latest(),
                )
            item = list_item(answer.movie)
            if not details and not self._belongs(item):
                return Saved(0, 0)
            return merge(
                self._movies,
                {key.movie_id: version_of(item, answer.fetched_at, key.id, answer.body)},
                self._latest(),
            )

    def gone(self, ids: Collection[int], at: datetime) -> int:
        """TMDB did not have the movies at that moment; returns how many that changes. Nothing is deleted."""
        changed = 0
        for batch in _batches(ids):
            known = {"_id": {"$in": batch}, **self._before(at)}
            news = {"$max": {"_meta.gone_at": at}}
            with translated():
                changed += self._movies.update_many({**known, "_meta.gone_at": None}, news).modified_count
                self._movies.update_many(known, news)
                self._details.update_many(known, news)
        return changed

    def stale(self, ids: Collection[int], moment: datetime) -> set[int]:
        """Those whose list item, or details where they are kept, were not asked for since then."""
        fresh: set[int] = set()
        outdated: set[int] = set()
        latest = self._latest()
        for batch in _batches(ids):
            query = {"_id": {"$in": batch}}
            with translated():
                for movie in self._movies.find(query, {"_meta": 1}):
                    meta = movie["_meta"]
                    if any(moment <= meta.get(name, EPOCH) <= latest for name in ("fetched_at", "gone_at")):
                        fresh.add(movie["_id"])
                older = {**query, **self._before(moment), "_meta.gone_at": None}
                outdated.update(one["_id"] for one in self._details.find(older, {"_id": 1}))
        return set(ids) - fresh | outdated

    def not_demanded(self, ids: Collection[int], moment: datetime) -> set[int]:
        """Those that `demand` was not told to have since that moment."""
        known: set[int] = set()
        for batch in _batches(ids):
            with translated():
                query = {"_id": {"$in": batch}, "since": since(moment, self._latest())}
                known.update(row["_id"] for row in self._demanded.find(query, {"_id": 1}))
        return set(ids) - known

    def demand(self, ids: Iterable[int], since: datetime) -> None:
        """Remember that changes of the movies until that moment were seen to."""
        updates = [UpdateOne({"_id": id_}, {"$max": {"since": since}}, upsert=True) for id_ in ids]
        if updates:
            with translated():
                self._demanded.bulk_write(updates, ordered=False)

    def read_to(self) -> datetime | None:
        """Until when all changes have been seen to; None: they never were."""
        with translated():
            cursor = self._cursors.find_one({"_id": "changes"})
        return cursor["read_to"] if cursor and cursor["read_to"] <= self._latest() else None

    def set_read_to(self, moment: datetime) -> None:
        """All changes until then have been seen to; never goes back."""
        with translated():
            self._cursors.delete_one({"_id": "changes", "read_to": {"$gt": self._latest()}})
            self._cursors.update_one({"_id": "changes"}, {"$max": {"read_to": moment}}, upsert=True)

    def forget_demands(self, before: datetime) -> None:
        """Forget what `demand` was told about moments before that one."""
        with translated():
            self._demanded.create_index("since")
            self._demanded.delete_many({"since": {"$lt": before}})

    def lacking_details(self, fresh_after: datetime, append: Collection[str] = ()) -> Iterator[int]:
        """Ids of stored movies, in no order, without details asked for since that hold the parts.

        Movies that TMDB no longer has are left out. All are found before the first is yielded.
        """
        query: Document = {"_meta.fetched_at": since(fresh_after, self._latest())}
        query.update((part, {"$exists": True}) for part in append)
        with translated(), patience(self._database):
            complete = {one["_id"] for one in self._details.find(query, {"_id": 1}, batch_size=AT_ONCE)}
            there = self._movies.find({"_meta.gone_at": None}, {"_id": 1}, batch_size=AT_ONCE)
            lacking = array("q", (movie["_id"] for movie in there if movie["_id"] not in complete))
        yield from lacking

    def aging(self, before: datetime) -> list[tuple[int, str]]:
        """Movies last asked for before that moment: id and where they were seen then, a page's id."""
        query = {**self._before(before), "_meta.gone_at": None}
        with translated(), patience(self._database):
            found = self._movies.find(query, {"_meta.page": 1}, batch_size=AT_ONCE)
            return [(movie["_id"], movie["_meta"]["page"]) for movie in found]

    def aging_details(self, before: datetime) -> list[int]:
        """Ids of movies whose details were last asked for before that moment."""
        query = {**self._before(before), "_meta.gone_at": None}
        with translated(), patience(self._database):
            return [movie["_id"] for movie in self._details.find(query, {"_id": 1}, batch_size=AT_ONCE)]

    def _latest(self) -> datetime:
        """The latest time that is to be believed of what is stored."""
        return self._now() + AHEAD

    def _before(self, moment: datetime) -> Document:
        """Selects what was last asked for before that moment, or at one that is not to be believed."""
        times = [{"_meta.fetched_at": {"$lt": moment}}, {"_meta.fetched_at": {"$gt": self._latest()}}]
        return {"$or": times}

    def _insert_wanted(self, rows: list[Document]) -> list[int]:
        """Ids of the rows that were there already."""
        try:
            self._to_do.insert_many(rows, ordered=False)
        except BulkWriteError as error:
            errors = error.details["writeErrors"]
            if {write["code"] for write in errors} != {_DUPLICATE}:
                raise
            return [rows[write["index"]]["_id"] for write in errors]
        return []

    def _belongs(self, item: Document) -> bool:
        """Whether it is stored, or in a cell that was asked for."""
        if self._movies.find_one({"_id": item["id"]}, {"_id": 1}):
            return True
        genres, year = {*item["genre_ids"], 0}, str(item.get("release_date"))[:4]
        return year.isdecimal() and any(
            int(year) in asked["years"] and genres & {genre["id"] for genre in asked["genres"]}
            for asked in self._backfills.find({}, {"years": 1, "genres.id": 1})
        )


def list_item(details: Document) -> Document:
    """The list item that a movie's details imply: without what only details have, genres by id."""
    item = {name: value for name, value in details.items() if name not in _ONLY_DETAILS}
    return {**item, "genre_ids": [genre["id"] for genre in details["genres"]]}


def _batches(ids: Collection[int]) -> Iterator[list[int]]:
    rest = iter(ids)
    while batch := list(islice(rest, BATCH)):
        yield batch
