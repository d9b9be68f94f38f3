"""The only door to MongoDB: what is stored, what is missing, what was asked for.

Movies merge as worker.merge says; page marks by the same rule, without a first_seen.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

import bson
from pymongo import UpdateOne
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from pymongo.write_concern import WriteConcern

from worker.answers import Page
from worker.errors import NotEver
from worker.merge import Saved, merge, versions_of
from worker.mongo import AT_ONCE, BATCH, Document, patience, translated
from worker.pages import Cell, MovieKey, PageKey, parse_key

#: Of a failed answer's body, this much is kept.
KEPT_BODY = 64 * 1024
#: Headers that say nothing of the page, and may say something of us.
UNKEPT_HEADERS = {"set-cookie", "authorization"}
#: Where each collection keeps when its documents were last asked for.
_TIMES = {
    "pages": "fetched_at",
    "movies": "_meta.fetched_at",
    "details": "_meta.fetched_at",
    "failures": "last_at",
}


class Count(NamedTuple):
    """What is stored of one cell."""

    #: Bit n is set when page n is stored.
    pages: int
    #: What page 1 says; -1 while that is missing.
    total_pages: int


class Store:
    """The collections of one database; safe for threads.

    Every method raises StoreAway when MongoDB does not answer or cannot write.
    """

    def __init__(self, database: Database[Document]) -> None:
        self.movies = database["movies"]
        # The journal is one sequence: when a page's mark is on disk, so is every movie written before it.
        journalled = WriteConcern(**{**database.write_concern.document, "j": True})
        self.pages = database.get_collection("pages", write_concern=journalled)
        self.failures = database.get_collection("failures", write_concern=journalled)
        self.backfills = database["backfills"]
        self.genres = database["genres"]
        self.schedule = database["schedule"]
        self._database = database

    def ping(self) -> None:
        """One round trip."""
        with translated():
            self._database.command("ping")

    def fresh(self, key: PageKey, fresh_after: datetime | None) -> bool:
        """Whether the page is stored, and was not fetched before `fresh_after`."""
        with translated():
            return self.pages.find_one(_fresh_query([key.id], fresh_after), {"_id": 1}) is not None

    def total_pages(self, cell: Cell) -> int | None:
        """What the cell's page 1 says of its length; None when that is not stored."""
        with translated():
            mark = self.pages.find_one({"_id": cell.page(1).id}, {"total_pages": 1})
        return mark["total_pages"] if mark else None

    def trim(self, cell: Cell, total_pages: int, asked_at: datetime) -> int:
        """Drop the cell's marks beyond `total_pages`, as its page 1 told at that moment; returns how many.

        To be called before that page 1 is saved. Movies stay, and so do marks asked for later.
        """
        known = self.total_pages(cell)
        if known is None:
            return 0
        kept = set(cell.rest(total_pages))
        surplus = [key for key in cell.rest(known) if key not in kept]
        # The halves of a cell that is whole again have pages of their own.
        dropped = sum(self.trim(key.cell, 0, asked_at) for key in surplus if key.cell != cell)
        for start in range(0, len(surplus), BATCH):
            ids = [key.id for key in surplus[start : start + BATCH]]
            with translated():
                query = {"_id": {"$in": ids}, "fetched_at": {"$lt": asked_at}}
                dropped += self.pages.delete_many(query).deleted_count
        return dropped

    def save(self, key: PageKey, page: Page) -> Saved:
        """The page's movies, then its mark; Unstorable when MongoDB cannot hold them as they are."""
        with translated(page.body):
            saved = merge(self.movies, versions_of(key.id, page))
            self._mark(key, page)
        return saved

    def save_list(self, name: str, page: Page) -> Saved:
        """The movies of a list that is no cell: no mark is kept."""
        with translated(page.body):
            return merge(self.movies, versions_of(name, page))

    def quarantine(self, key: PageKey | MovieKey, trouble: NotEver, at: datetime) -> None:
        """Keep the page or movie out of the fleet's way, with the answer that put it here."""
        with translated():
            self.failures.update_one(
                {"_id": key.id},
                {
                    "$set": {
                        **key._asdict(),
                        "class": type(trouble).__name__.lower(),
                        "reason": _storable(str(trouble)[:500]),
                        "status": trouble.response.status,
                        "headers": {
                            _storable(name): _storable(value)
                            for name, value in trouble.response.headers.items()
                            if name.lower() not in UNKEPT_HEADERS
                        },
                        "body": trouble.response.body[:KEPT_BODY],
                    },
                    "$inc": {"attempts": 1},
                    "$min": {"first_at": at},
                    "$max": {"last_at": at},
                },
                upsert=True,
            )

    def missing(self, cells: Iterable[Cell], fresh_after: datetime | None) -> Iterator[PageKey]:
        """What the cells lack: computed from what is stored, by and large in the cells' order.

        A cell whose page 1 is missing lacks that page; its others are not known yet. What is in
        quarantine is not missing.
        """
        cells = iter(cells)
        while batch := list(islice(cells, BATCH)):
            totals = self._totals([cell.page(1) for cell in batch], fresh_after)
            wanted: list[PageKey] = []
            for cell in batch:
                first = cell.page(1)
                if first.id not in totals:
                    wanted.append(first)
                    continue
                rest = cell.rest(totals[first.id])
                if rest and rest[0].cell != cell:
                    yield from self.missing((key.cell for key in rest), fresh_after)
                else:
                    wanted += rest
            yield from self._lacking(wanted, fresh_after)

    def remember(self, backfill_id: str, request: Document) -> None:
        """Keep what was asked for; the same request again only becomes the latest.

        Before the first page of it is stored, the indexes are there that tell what is older than it allows,
        and which are first pages.
        """
        with translated():
            self.pages.create_index("fetched_at")
            self.pages.create_index("page")
            again = {"$set": request, "$unset": {"finished_at": ""}}
            self.backfills.update_one({"_id": backfill_id}, again, upsert=True)

    def finish(self, backfill_id: str, requested_at: datetime, at: datetime) -> None:
        """Note that the request lacks nothing any more, unless it was made anew meanwhile.

        Only so that nobody computes it again every minute: what counts is what is stored.
        """
        with translated():
            request = {"_id": backfill_id, "requested_at": requested_at}
            self.backfills.update_one(request, {"$set": {"finished_at": at}})

    def remembered(self, *, unfinished: bool = False) -> list[Document]:
        """Every request kept, or those not known to be finished; the latest first."""
        query = {"finished_at": {"$exists": False}} if unfinished else {}
        with translated():
            return list(self.backfills.find(query).sort("requested_at", -1))

    def name_genres(self, names: Mapping[int, str], at: datetime) -> None:
        """Keep the API's names of genres, as of `at`."""
        with translated():
            self.genres.bulk_write(
                [
                    UpdateOne({"_id": id_}, {"$set": {"name": name, "fetched_at": at}}, upsert=True)
                    for id_, name in names.items()
                ]
            )

    def named_genres(self, fresh_after: datetime | None = None) -> dict[int, str]:
        """Names by genre id, in the order of the names; those fetched since `fresh_after`."""
        query = {"fetched_at": {"$gte": fresh_after}} if fresh_after else {}
        with translated():
            return {genre["_id"]: genre["name"] for genre in self.genres.find(query).sort("name", 1)}

    def note(self, name: str, **facts: object) -> None:
        """Keep facts on a recurring duty."""
        with translated():
            self.schedule.update_one({"_id": name}, {"$set": facts}, upsert=True)

    def go_on(self, name: str, here: Document, following: Document, at: datetime) -> bool:
        """Move a duty's reading on to the following place, if it is here still; whether it was."""
        reading = {"at": following, "after": here, "since": at}
        with translated():
            query = {"_id": name, "reading.at": here}
            return self.schedule.update_one(query, {"$set": {"reading": reading}}).matched_count > 0

    def notes(self) -> dict[str, Document]:
        """What is kept on recurring duties, by name."""
        with translated():
            return {duty["_id"]: duty for duty in self.schedule.find()}

    def oldest(self) -> datetime | None:
        """When the page that is oldest was asked for; None: there is none."""
        with translated():
            mark = self.pages.find_one({}, {"fetched_at": 1}, sort=[("fetched_at", 1)])
        return mark["fetched_at"] if mark else None

    def older(self, before: datetime) -> dict[Cell, datetime]:
        """By cell, when the oldest of its pages was asked for, of pages asked for before that moment."""
        found: dict[Cell, datetime] = {}
        with translated():
            for mark in self.pages.find(
                {"fetched_at": {"$lt": before}}, {"fetched_at": 1}, batch_size=AT_ONCE
            ):
                cell = PageKey.parse(mark["_id"]).cell
                found[cell] = min(found.get(cell, before), mark["fetched_at"])
        return found

    def count_older(self, before: datetime) -> int:
        """How many pages were last asked for before that moment."""
        with translated():
            return self.pages.count_documents({"fetched_at": {"$lt": before}})

    def expired(self, before: datetime) -> dict[str, int]:
        """By collection, how many documents hold what was last asked for before that moment."""
        with translated(), patience(self._database):
            return {
                name: self._database[name].count_documents({field: {"$lt": before}})
                for name, field in _TIMES.items()
            }

    def expire(self, before: datetime) -> dict[str, int]:
        """Delete what `expired` counts, marks first: a page whose movies are gone must count as missing."""
        with translated(), patience(self._database):
            return {
                name: self._database[name].delete_many({field: {"$lt": before}}).deleted_count
                for name, field in _TIMES.items()
            }

    def claim_due(self, name: str, period: timedelta, now: datetime) -> bool:
        """Whether `name` was not claimed within `period`; it is then, and only one caller is told so."""
        with translated():
            try:
                due = {"_id": name, "claimed_at": {"$lte": now - period}}
                return self.schedule.update_one(due, {"$set": {"claimed_at": now}}, upsert=True).acknowledged
            except DuplicateKeyError:
                return False

    def counts(self, moments: Collection[datetime | None]) -> dict[datetime | None, dict[Cell, Count]]:
        """For each moment, what is stored of every cell of pages fetched then or later (None: ever).

        One pass over the ids for all moments, in flat memory; and for each moment one over the marks that are
        older, to take them off again. The embedded server takes 30 us for an id, 50 us for two fields, and
        60 us for an id by the index of `remember`, which most often has next to none to tell.
        """
        ever = self._stored({})
        pages: dict[datetime | None, dict[Cell, int]] = {None: ever}
        for moment in set(moments) - {None}:
            # Read later than `ever`: a page that was fetched anew in between is not old any more.
            old = self._stored({"fetched_at": {"$lt": moment}})
            fresh = ((cell, stored & ~old.get(cell, 0)) for cell, stored in ever.items())
            pages[moment] = {cell: stored for cell, stored in fresh if stored}
        pages = {moment: pages[moment] for moment in moments}
        with translated():
            firsts = self.pages.find({"page": 1}, {"total_pages": 1}, batch_size=AT_ONCE)
            totals = {mark["_id"]: mark["total_pages"] for mark in firsts}
        return {
            moment: {
                cell: Count(stored, totals.get(cell.page(1).id, -1) if stored & 0b10 else -1)
                for cell, stored in cells.items()
            }
            for moment, cells in pages.items()
        }

    def quarantined(self) -> dict[PageKey | MovieKey, Document]:
        """What is in quarantine and was not stored since, without the bodies."""
        with translated():
            failures = list(self.failures.find({}, {"body": 0, "headers": 0}))
            fetched: dict[str, datetime] = {}
            for start in range(0, len(failures), BATCH):
                keys = [parse_key(failure["_id"]) for failure in failures[start : start + BATCH]]
                pages = {"_id": {"$in": [key.id for key in keys if isinstance(key, PageKey)]}}
                movies = {"_id": {"$in": [key.movie_id for key in keys if isinstance(key, MovieKey)]}}
                for mark in self.pages.find(pages, {"fetched_at": 1}):
                    fetched[mark["_id"]] = mark["fetched_at"]
                for movie in self.movies.find(movies, {"_meta": 1}):
                    fetched[MovieKey(movie["_id"]).id] = movie["_meta"]["fetched_at"]
        return {
            parse_key(failure["_id"]): failure
            for failure in failures
            if failure["_id"] not in fetched or fetched[failure["_id"]] < failure["last_at"]
        }

    def failure(self, key: PageKey | MovieKey) -> Document | None:
        """What put the page or movie into quarantine, body and all."""
        with translated():
            return self.failures.find_one({"_id": key.id})

    def release(self, keys: Iterable[PageKey | MovieKey]) -> None:
        """Take them out of quarantine; those a backfill lacks count as missing again."""
        with translated():
            for key in keys:
                self.failures.delete_one({"_id": key.id})

    def count_movies(self) -> int:
        """How many movies are stored, by the collection's own books: exact while MongoDB ends in order."""
        with translated():
            return self.movies.estimated_document_count()

    def count_pages(self) -> int:
        """How many pages are stored, as `count_movies` counts."""
        with translated():
            return self.pages.estimated_document_count()

    def each_page(self) -> Iterator[tuple[PageKey, Document]]:
        """Every stored page with its movie_ids and totals, in no order; flat memory."""
        fields = {"movie_ids": 1, "total_pages": 1, "total_results": 1}
        with translated():
            for mark in self.pages.find({}, fields):
                yield PageKey.parse(mark["_id"]), mark

    def each_genres(self) -> Iterator[list[int]]:
        """The genre ids of every stored movie that TMDB still has, in no order; flat memory."""
        with translated():
            for movie in self.movies.find({"_meta.gone_at": None}, {"_id": 0, "genre_ids": 1}):
                yield movie.get("genre_ids", [])

    def each_movie(self) -> Iterator[Document]:
        """Every stored movie that TMDB still has, with its `_meta`, in the order of ids; flat memory."""
        with translated():
            # The embedded server sorts before it answers; what comes after its first answer is quick.
            with patience(self._database):
                movies = self.movies.find({"_meta.gone_at": None}).sort("_id", 1)
                first = next(movies, None)
            if first:
                yield first
            yield from movies

    def movie_ids(self, on_movie: Callable[[], None] = lambda: None) -> array[int]:
        """The id of every stored movie, ascending, 8 bytes each; `on_movie` for each one read.

        Sorted here: the embedded server sorts and limits by looking at everything before it answers.
        """
        ids = array("q")
        with translated(), patience(self._database):
            for movie in self.movies.find({}, {"_id": 1}, batch_size=AT_ONCE):
                ids.append(movie["_id"])
                on_movie()
        return array("q", sorted(ids))

    def first_seen(self, ids: Sequence[int]) -> Iterator[tuple[int, datetime]]:
        """Of these, the stored movies that TMDB has not said are gone, and when each was first seen."""
        for start in range(0, len(ids), BATCH):
            query = {"_id": {"$in": list(ids[start : start + BATCH])}, "_meta.gone_at": {"$exists": False}}
            with translated():
                for movie in self.movies.find(query, {"_meta.first_seen": 1}):
                    yield movie["_id"], movie["_meta"]["first_seen"]

    def _stored(self, query: Document) -> dict[Cell, int]:
        """Pages of the marks that match, as bits by cell."""
        pages: dict[str, int] = {}  # a Cell for each of 200,000 marks would take half a second
        with translated():
            batches: Any = self.pages.find_raw_batches(query, {"_id": 1}, batch_size=AT_ONCE)
            for batch in _ahead(batches):
                for mark in bson.decode_all(batch):
                    cell, _, number = mark["_id"].rpartition(":")
                    pages[cell] = pages.get(cell, 0) | 1 << int(number)
        split = ((cell.partition(":"), bits) for cell, bits in pages.items())
        return {Cell(int(genre_id), window): bits for (genre_id, _, window), bits in split}

    def _totals(self, firsts: Sequence[PageKey], fresh_after: datetime | None) -> dict[str, int]:
        """total_pages by id, of the page 1s that are stored and fresh."""
        totals: dict[str, int] = {}
        for start in range(0, len(firsts), BATCH):
            query = _fresh_query([key.id for key in firsts[start : start + BATCH]], fresh_after)
            with translated():
                marks = self.pages.find(query, {"total_pages": 1})
                totals |= {mark["_id"]: mark["total_pages"] for mark in marks}
        return totals

    def _lacking(self, keys: Sequence[PageKey], fresh_after: datetime | None) -> Iterator[PageKey]:
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            ids = [key.id for key in batch]
            given_up: Document = {"_id": {"$in": ids}}
            if fresh_after:
                given_up["last_at"] = {"$gte": fresh_after}
            with translated():
                done = {mark["_id"] for mark in self.pages.find(_fresh_query(ids, fresh_after), {"_id": 1})}
                done.update(failure["_id"] for failure in self.failures.find(given_up, {"_id": 1}))
            yield from (key for key in batch if key.id not in done)

    def _mark(self, key: PageKey, page: Page) -> None:
        mark = {
            "_id": key.id,
            "genre_id": key.genre_id,
            "window": key.window,
            "page": key.page,
            "total_pages": page.total_pages,
            "total_results": page.total_results,
            "movie_ids": [movie["id"] for movie in page.results],
            "fetched_at": page.fetched_at,
            "sha256": page.sha256,
        }
        with suppress(DuplicateKeyError):
            self.pages.insert_one(mark)
            return
        rank = (page.fetched_at, page.sha256)
        while stored := self.pages.find_one({"_id": key.id}, {"fetched_at": 1, "sha256": 1}):
            if rank <= (stored["fetched_at"], stored["sha256"]):
                return
            if self.pages.replace_one(stored, mark).matched_count:
                return


def _ahead(batches: Iterable[bytes]) -> Iterator[bytes]:
    """The batches, each asked for while the one before is looked at."""
    rest = iter(batches)
    with ThreadPoolExecutor(1) as one:
        coming = one.submit(next, rest, None)
        while (batch := coming.result()) is not None:
            coming = one.submit(next, rest, None)
            yield batch


def _fresh_query(ids: list[str], fresh_after: datetime | None) -> Document:
    query: Document = {"_id": ids[0] if len(ids) == 1 else {"$in": ids}}
    if fresh_after:
        query["fetched_at"] = {"$gte": fresh_after}
    return query


def _storable(text: str) -> str:
    """Text that BSON can hold: what TMDB says may have lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()
