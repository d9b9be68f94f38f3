"""The collections `movies` and `details`: raw list items and raw detail documents, each with its `_meta`."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime

from worker.keys import MovieKey
from worker.records import Details, Page
from worker.storage.merge import Saved, merge, version_of, versions_of
from worker.storage.mongo import EPOCH, READ_BATCH, Document, Mongo, translate_errors

#: Parts that append_to_response may name for a movie (TMDB API reference, movie/details).
PARTS = (
    "alternative_titles", "changes", "credits", "external_ids", "images", "keywords", "lists",
    "recommendations", "release_dates", "reviews", "similar", "translations", "videos", "watch/providers",
)  # fmt: skip
#: Fields of details that no list item has, by recorded bodies of both.
_ONLY_DETAILS = {
    "belongs_to_collection", "budget", "genres", "homepage", "imdb_id", "origin_country",
    "production_companies", "production_countries", "revenue", "runtime", "spoken_languages", "status",
    "tagline", *PARTS,
}  # fmt: skip
#: Selects movies that are not gone.
_NOT_GONE: Document = {"_meta.gone_at": None}


class MovieStore:
    """Movies and their details. Every method raises MongoUnavailable."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self.collection = mongo.database["movies"]
        self.details = mongo.database["details"]

    def save_page(self, name: str, page: Page) -> Saved:
        """Merge the movies of a page; `name` becomes their `_meta.page`."""
        with translate_errors(page.body):
            return merge(self.collection, versions_of(name, page), self._mongo.latest())

    def save_details(self, key: MovieKey, details: Details, *, keep: bool) -> Saved:
        """Merge the list item that the details imply; with `keep`, the details too.

        Without `keep`, a movie that is neither stored nor in a cell of any backfill is left out.
        """
        latest, item = self._mongo.latest(), list_item(details.movie)
        with translate_errors(details.body):
            if keep:
                whole = version_of(details.movie, details.fetched_at, key.id, details.body)
                merge(self.details, {key.movie_id: whole}, latest)
            elif not self._belongs(item):
                return Saved(0, 0)
            version = version_of(item, details.fetched_at, key.id, details.body)
            return merge(self.collection, {key.movie_id: version}, latest)

    def stored_parts(self, movie_id: int) -> set[str] | None:
        """The appended parts that the stored details hold; None when no details are stored."""
        with translate_errors():
            stored = self.details.find_one({"_id": movie_id}, dict.fromkeys(PARTS, 1))
        return None if stored is None else set(stored) & set(PARTS)

    def stored_details(self, movie_id: int, fresh_after: datetime) -> Document | None:
        """The details, with their `_meta`; None unless they are stored and were requested since then."""
        with translate_errors():
            return self.details.find_one(
                {"_id": movie_id, "_meta.fetched_at": self._mongo.since(fresh_after)}
            )

    def tombstone(self, ids: Collection[int], at: datetime) -> int:
        """Mark as gone the movies not requested since; returns how many were not gone before."""
        changed = 0
        for batch in self._mongo.batches(ids):
            known = {"_id": {"$in": batch}, **self._fetched_before(at)}
            gone = {"$max": {"_meta.gone_at": at}}
            with translate_errors():
                changed += self.collection.update_many({**known, **_NOT_GONE}, gone).modified_count
                self.collection.update_many(known, gone)
                self.details.update_many(known, gone)
        return changed

    def count(self) -> int:
        """How many movies are stored, by the collection's metadata: inexact after MongoDB was killed."""
        with translate_errors():
            return self.collection.estimated_document_count()

    def each(self) -> Iterator[Document]:
        """Every stored movie that is not gone, with its `_meta`, by ascending id; flat memory."""
        with translate_errors():
            # SecantusDB sorts before its first answer; the rest is quick.
            with self._mongo.long_query():
                movies = self.collection.find(_NOT_GONE).sort("_id", 1)
                first = next(movies, None)
            if first:
                yield first
            yield from movies

    def each_genre_ids(self) -> Iterator[list[int]]:
        """The genre ids of every stored movie that is not gone, in no order; flat memory."""
        with translate_errors():
            for movie in self.collection.find(_NOT_GONE, {"_id": 0, "genre_ids": 1}):
                yield movie.get("genre_ids", [])

    def ids(self, on_movie: Callable[[], None] = lambda: None) -> array[int]:
        """The id of every stored movie, ascending, 8 bytes each; calls `on_movie` for each.

        Sorted here: SecantusDB reads everything before the first answer to a sorted query.
        """
        ids = array("q")
        with self._mongo.long_query():
            for movie in self.collection.find({}, {"_id": 1}, batch_size=READ_BATCH):
                ids.append(movie["_id"])
                on_movie()
        return array("q", sorted(ids))

    def first_seen(self, ids: Iterable[int]) -> Iterator[tuple[int, datetime]]:
        """Those of the movies that are stored and not gone, each with when it was first seen."""
        for batch in self._mongo.batches(ids):
            query = {"_id": {"$in": batch}, "_meta.gone_at": {"$exists": False}}
            with translate_errors():
                for movie in self.collection.find(query, {"_meta.first_seen": 1}):
                    yield movie["_id"], movie["_meta"]["first_seen"]

    def not_fetched_since(self, ids: Collection[int], moment: datetime) -> set[int]:
        """Those of the movies whose list item, or stored details, were not requested since then."""
        fresh: set[int] = set()
        outdated: set[int] = set()
        latest = self._mongo.latest()
        for batch in self._mongo.batches(ids):
            query = {"_id": {"$in": batch}}
            with translate_errors():
                for movie in self.collection.find(query, {"_meta": 1}):
                    meta = movie["_meta"]
                    if any(moment <= meta.get(name, EPOCH) <= latest for name in ("fetched_at", "gone_at")):
                        fresh.add(movie["_id"])
                older = {**query, **self._fetched_before(moment), **_NOT_GONE}
                outdated.update(one["_id"] for one in self.details.find(older, {"_id": 1}))
        return set(ids) - fresh | outdated

    def without_details(self, fresh_after: datetime, append: Collection[str] = ()) -> Iterator[int]:
        """Ids, in no order, of movies that lack details requested since then with all of the parts.

        Movies that are gone are left out. All are found before the first is yielded.
        """
        query: Document = {"_meta.fetched_at": self._mongo.since(fresh_after)}
        query.update((part, {"$exists": True}) for part in append)
        with self._mongo.long_query():
            complete = {one["_id"] for one in self.details.find(query, {"_id": 1}, batch_size=READ_BATCH)}
            movies = self.collection.find(_NOT_GONE, {"_id": 1}, batch_size=READ_BATCH)
            lacking = array("q", (movie["_id"] for movie in movies if movie["_id"] not in complete))
        yield from lacking

    def fetched_before(self, moment: datetime) -> list[tuple[int, str]]:
        """Each movie last requested before that moment: its id, and the page that it was on then."""
        query = {**self._fetched_before(moment), **_NOT_GONE}
        with self._mongo.long_query():
            found = self.collection.find(query, {"_meta.page": 1}, batch_size=READ_BATCH)
            return [(movie["_id"], movie["_meta"]["page"]) for movie in found]

    def details_fetched_before(self, moment: datetime) -> list[int]:
        """Ids of the movies whose details were last requested before that moment."""
        query = {**self._fetched_before(moment), **_NOT_GONE}
        with self._mongo.long_query():
            return [movie["_id"] for movie in self.details.find(query, {"_id": 1}, batch_size=READ_BATCH)]

    def _fetched_before(self, moment: datetime) -> Document:
        """Select what was last requested before that moment, or in the future."""
        times = [{"_meta.fetched_at": {"$lt": moment}}, {"_meta.fetched_at": {"$gt": self._mongo.latest()}}]
        return {"$or": times}

    def _belongs(self, item: Document) -> bool:
        """Whether the movie is stored, or in a cell of any backfill."""
        if self.collection.find_one({"_id": item["id"]}, {"_id": 1}):
            return True
        genres, year = {*item["genre_ids"], 0}, str(item.get("release_date"))[:4]
        requests = self._mongo.database["backfills"].find({}, {"years": 1, "genres.id": 1})
        return year.isdecimal() and any(
            int(year) in request["years"] and genres & {genre["id"] for genre in request["genres"]}
            for request in requests
        )


def list_item(details: Document) -> Document:
    """The list item that a movie's details imply: without the fields that only details have, genres by id."""
    item = {name: value for name, value in details.items() if name not in _ONLY_DETAILS}
    return {**item, "genre_ids": [genre["id"] for genre in details["genres"]]}
