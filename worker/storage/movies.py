"""The collections `movies` and `details`: raw list items and raw detail documents, each with its `_meta`."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from datetime import datetime

from worker.keys import MovieKey
from worker.records import Details, Page
from worker.storage.merge import Saved, content_sha256, merge, version_of, versions_of
from worker.storage.mongo import EPOCH, READ_BATCH, Document, Mongo, translate_errors
from worker.storage.raw import OURS
from worker.storage.selection import ALL, READ_INDEX, Selection

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
#: Whole documents in one round trip: some megabytes of details.
HASH_BATCH = 200
#: Selects movies that are not gone.
_NOT_GONE: Document = {"_meta.gone_at": None}


class MovieStore:
    """Movies and their details. Every method raises MongoUnavailable."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self.collection = mongo.database["movies"]
        self.details = mongo.database["details"]
        #: Whether no movie of the last page was stored before. Then the next page's are probably new too.
        self._all_new = True

    def save_page(self, name: str, page: Page) -> Saved:
        """Merge the movies of a page; `name` becomes their `_meta.page`."""
        with translate_errors(page.body):
            versions = versions_of(name, page)
            saved = merge(self.collection, versions, self._mongo.latest(), all_new=self._all_new)
            self._all_new = saved.inserted == len(versions)
            return saved

    def save_details(self, key: MovieKey, details: Details, *, whole: bool) -> Saved:
        """Merge the list item that the details imply, and the details if `whole` or if some are stored."""
        latest = self._mongo.latest()
        with translate_errors(details.body):
            item = version_of(list_item(details.movie), details.fetched_at, key.id, details.body)
            saved = merge(self.collection, {key.movie_id: item}, latest)
            if whole or self.stored_parts(key.movie_id) is not None:
                document = version_of(details.movie, details.fetched_at, key.id, details.body)
                merge(self.details, {key.movie_id: document._replace(parts=details.parts)}, latest)
            return saved

    def stored_parts(self, movie_id: int) -> set[str] | None:
        """The parts with which the stored details were requested; None when no details are stored."""
        with translate_errors():
            stored = self.details.find_one({"_id": movie_id}, {"_meta.parts": 1})
        return None if stored is None else set(stored.get("_meta", {}).get("parts", ()))

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
            latest = self._mongo.latest()
            gone, not_later = {"$set": {"_meta.gone_at": at}}, {"$not": {"$gt": at, "$lte": latest}}
            # One after the other: SecantusDB answers `$or` without an index.
            for times in ({"$lt": at}, {"$gt": latest}):
                known = {"_id": {"$in": batch}, "_meta.fetched_at": times}
                with translate_errors():
                    changed += self.collection.update_many({**known, **_NOT_GONE}, gone).modified_count
                    for collection in (self.collection, self.details):
                        collection.update_many({**known, "_meta.gone_at": not_later}, gone)
        return changed

    def oldest(self) -> datetime | None:
        """When the movie that was not requested for longest was; None when none is stored. Slow."""
        times = {"_meta.fetched_at": self._mongo.since(EPOCH)}
        with self._mongo.long_query():
            movies = self.collection.find(times, {"_meta.fetched_at": 1}, batch_size=READ_BATCH)
            return min((movie["_meta"]["fetched_at"] for movie in movies), default=None)

    def count(self) -> int:
        """How many movies are stored, by the collection's metadata: inexact after MongoDB was killed."""
        with translate_errors():
            return self.collection.estimated_document_count()

    def create_read_index(self) -> None:
        """Create the index for queries by genre and date."""
        with self._mongo.long_query():
            self.collection.create_index(READ_INDEX)

    def each(self, selection: Selection = ALL, *, details: bool = False) -> Iterator[Document]:
        """Every selected movie, or its details, with its `_meta`, by ascending id; flat memory."""
        collection = self.details if details else self.collection
        with translate_errors():
            # SecantusDB sorts before its first answer; the rest is quick.
            with self._mongo.long_query():
                query = selection.query(details=details)
                movies = collection.find(query).sort("_id", 1).allow_disk_use(True)
                first = next(movies, None)
            if first:
                yield first
            yield from movies

    def in_order(self, ids: Iterable[int], *, details: bool = False) -> Iterator[Document]:
        """Those of the movies, or of their details, that are stored and not gone, in the order of the ids."""
        collection = self.details if details else self.collection
        for batch in self._mongo.batches(ids):
            with translate_errors():
                found = collection.find({"_id": {"$in": batch}, **_NOT_GONE})
                movies = {movie["_id"]: movie for movie in found}
            yield from (movies[id_] for id_ in batch if id_ in movies)

    def each_genre_ids(self) -> Iterator[list[int]]:
        """The genre ids of every stored movie that is not gone, in no order; flat memory."""
        with translate_errors():
            for movie in self.collection.find(_NOT_GONE, {"_id": 0, "genre_ids": 1}):
                yield movie.get("genre_ids", [])

    def hashes(
        self, *, details: bool = False, on_movie: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[int, str, bool]]:
        """For every stored movie, or its details: the id, the hash of what is stored now, and whether that
        is the hash of what was saved. In no order; flat memory. The hash is "" for what no JSON holds.
        """
        collection = self.details if details else self.collection
        with translate_errors():
            for movie in collection.find({"_id": {"$gt": 0}}, batch_size=HASH_BATCH):
                now = stored_sha256(movie)
                yield movie["_id"], now, is_as_saved(movie, now)
                on_movie()

    def distrust(self, ids: Iterable[int], *, details: bool = False) -> None:
        """Forget the hashes of what was saved, so that the next fetch replaces these documents."""
        collection = self.details if details else self.collection
        for batch in self._mongo.batches(ids):
            with translate_errors():
                query = {"_id": {"$in": batch}, "_meta.sha256": {"$exists": True}}
                collection.update_many(query, {"$set": {"_meta.sha256": ""}})

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

    def times(self, ids: Iterable[int]) -> dict[int, datetime]:
        """When those of the movies that are stored were last requested, or last said to be gone.

        With stored details, when the older of both was requested. Times in the future count as EPOCH,
        and so does what is missing.
        """
        found: dict[int, datetime] = {}
        latest = self._mongo.latest()

        def known(movie: Document, name: str) -> datetime:
            meta = movie.get("_meta")
            at = meta.get(name) if isinstance(meta, dict) else None
            return at if isinstance(at, datetime) and at <= latest else EPOCH

        for batch in self._mongo.batches(ids):
            query = {"_id": {"$in": batch}}
            with translate_errors():
                for movie in self.collection.find(query, {"_meta": 1}):
                    found[movie["_id"]] = max(known(movie, "fetched_at"), known(movie, "gone_at"))
                for one in self.details.find({**query, **_NOT_GONE}, {"_meta": 1}):
                    if one["_id"] in found:
                        found[one["_id"]] = min(found[one["_id"]], known(one, "fetched_at"))
        return found

    def has_details(self, movie_id: int, fresh_after: datetime | None, parts: Collection[str]) -> bool:
        """Whether a movie is stored with details, requested since then with the parts; or is gone since."""
        since = self._mongo.since(fresh_after or EPOCH)
        query: Document = {"_id": movie_id, "_meta.fetched_at": since, **_with_parts(parts)}
        with translate_errors():
            movie = self.collection.find_one({"_id": movie_id}, {"_id": 1})
            gone = self.collection.find_one({"_id": movie_id, "_meta.gone_at": since}, {"_id": 1})
            return bool(gone or (movie and self.details.find_one(query, {"_id": 1})))

    def without_details(
        self, fresh_after: datetime, parts: Collection[str], first_seen: datetime
    ) -> array[int]:
        """Ids of movies that lack details requested since `fresh_after` with all of the parts.

        Movies that are gone are left out, and those first seen after `first_seen`.
        """
        query = {"_meta.fetched_at": self._mongo.since(fresh_after), **_with_parts(parts)}
        with self._mongo.long_query():
            complete = {one["_id"] for one in self.details.find(query, {"_id": 1}, batch_size=READ_BATCH)}
            movies = self.collection.find(_known_by(first_seen), {"_id": 1}, batch_size=READ_BATCH)
            return array("q", (id_ for id_ in _ids(movies) if id_ not in complete))

    def count_known_by(self, moment: datetime) -> int:
        """How many movies were first seen by that moment and are not gone."""
        with self._mongo.long_query():
            return self.collection.count_documents(_known_by(moment))

    def fetched_before(self, moment: datetime) -> list[tuple[int, str]]:
        """Each movie last requested before that moment: its id, and the page that it was on then."""
        query = {**self._fetched_before(moment), **_NOT_GONE}
        with self._mongo.long_query():
            found = self.collection.find(query, {"_meta.page": 1}, batch_size=READ_BATCH)
            return [
                (movie["_id"], str(movie["_meta"].get("page")))
                for movie in found
                if isinstance(movie["_id"], int)
            ]

    def details_fetched_before(self, moment: datetime) -> list[int]:
        """Ids of the movies whose details were last requested before that moment."""
        query = {**self._fetched_before(moment), **_NOT_GONE}
        with self._mongo.long_query():
            return list(_ids(self.details.find(query, {"_id": 1}, batch_size=READ_BATCH)))

    def _fetched_before(self, moment: datetime) -> Document:
        """Select what can be requested and was last requested before that moment, or in the future."""
        times = [{"_meta.fetched_at": {"$lt": moment}}, {"_meta.fetched_at": {"$gt": self._mongo.latest()}}]
        return {"_id": {"$gt": 0}, "$or": times}


def stored_sha256(movie: Document) -> str:
    """The hash of what is stored now; "" for what no JSON holds."""
    content = {name: value for name, value in movie.items() if name not in OURS}
    with suppress(TypeError, ValueError, RecursionError):
        return content_sha256(content)
    return ""


def is_as_saved(movie: Document, now: str) -> bool:
    """Whether the hash `now` is that of what was saved."""
    meta = movie.get("_meta")
    return isinstance(meta, dict) and meta.get("sha256") == now


def list_item(details: Document) -> Document:
    """The list item that a movie's details imply: without the fields that only details have, genres by id."""
    item = {name: value for name, value in details.items() if name not in _ONLY_DETAILS}
    return {**item, "genre_ids": [genre["id"] for genre in details["genres"]]}


def _ids(documents: Iterable[Document]) -> Iterator[int]:
    """The `_id`s that can be a movie's."""
    return (document["_id"] for document in documents if isinstance(document["_id"], int))


def _known_by(moment: datetime) -> Document:
    """Select movies that were first seen by that moment and are not gone."""
    return {"_id": {"$gt": 0}, "_meta.first_seen": {"$lte": moment}, **_NOT_GONE}


def _with_parts(parts: Collection[str]) -> Document:
    """Select details that were requested with the parts."""
    return {"$and": [{"_meta.parts": part} for part in parts]} if parts else {}
