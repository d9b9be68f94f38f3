"""The only door to MongoDB: what is stored, what is missing, what was asked for.

Movies merge as worker.storage.merge says; page marks by the same rule, without a first_seen.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import bson
from pymongo import UpdateOne
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from worker.errors import NotEver, StoreAway
from worker.keys import MAX_PAGE, Cell, MovieKey, PageKey, parse_key
from worker.storage.documents import A_TIME, Record, Totals, is_ranked, keyed, read_key, skip, total_of
from worker.storage.merge import ROUNDS, Saved, merge, versions_of
from worker.storage.mongo import (
    AHEAD,
    AT_ONCE,
    BATCH,
    JOURNALLED,
    Document,
    dependable,
    own_now,
    patience,
    since,
    translated,
)
from worker.tmdb.responses import Page

T = TypeVar("T")

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
#: What a failure may lack, and is shown nevertheless.
_UNTOLD: Document = {"class": "unknown", "reason": "", "status": 0, "attempts": 0}
#: Page n as bit n, by how its number is written.
_BITS = {f"{number}": 1 << number for number in range(1, MAX_PAGE + 1)}


class Count(NamedTuple):
    """What is stored of one cell."""

    #: Bit n is set when page n is stored.
    pages: int
    #: What page 1 says; -1 while that is missing.
    total_pages: int


class Store:
    """The collections of one database; safe for threads.

    `now` is the fleet's clock: stored times further ahead of it than AHEAD are not believed. Every method
    raises StoreAway when MongoDB does not answer or cannot write.
    """

    def __init__(self, database: Database[Document], now: Callable[[], datetime] = own_now) -> None:
        database = dependable(database)
        self.now = now
        self.movies = database["movies"]
        # A page record is written when a majority has its movies. A server without replicas may have those in
        # memory alone, but its journal is one sequence: when the record is on disk, so are they.
        self.pages = database.get_collection("pages", write_concern=JOURNALLED)
        self.failures = database.get_collection("failures", write_concern=JOURNALLED)
        self.backfills = database["backfills"]
        self.genres = database["genres"]
        self.schedule = database["schedule"]
        self._database = database

    def latest(self) -> datetime:
        """The latest time that is to be believed of what is stored."""
        return self.now() + AHEAD

    def ping(self) -> None:
        """One round trip."""
        with translated():
            self._database.command("ping")

    def fresh(self, key: PageKey, fresh_after: datetime | None) -> bool:
        """Whether the page is stored, and was not fetched before `fresh_after`."""
        with translated():
            mark = self.pages.find_one(self._fresh([key.id], fresh_after), {"total_pages": 1})
        return mark is not None and total_of(mark) is not None

    def totals(self, cell: Cell) -> Totals | None:
        """What the cell's page 1 says of it; None when that is not stored."""
        fields = {"total_pages": 1, "total_results": 1, "fetched_at": 1}
        with translated():
            mark = self.pages.find_one({"_id": cell.page(1).id}, fields)
        return Totals.of(mark) if mark else None

    def trim(self, cell: Cell, total_pages: int, asked_at: datetime) -> int:
        """Drop the cell's marks beyond `total_pages`, as its page 1 told at that moment; returns how many.

        To be called before that page 1 is saved. Movies stay, and so do marks asked for later.
        """
        known = self.totals(cell)
        if known is None or known.fetched_at > asked_at:
            return 0
        kept = set(cell.rest(total_pages))
        surplus = [key for key in cell.rest(known.pages) if key not in kept]
        if not surplus:
            return 0
        with self.reopening():  # until page 1 says so too, what is dropped is missing
            # The halves of a cell that is whole again have pages of their own.
            dropped = sum(self.trim(key.cell, 0, asked_at) for key in surplus if key.cell != cell)
            for batch in _batches(surplus):
                query = {"_id": {"$in": [key.id for key in batch]}, "fetched_at": {"$lt": asked_at}}
                with translated():
                    dropped += self.pages.delete_many(query).deleted_count
        return dropped

    def save(self, key: PageKey, page: Page) -> Saved:
        """The page's movies, then its mark; Unstorable when MongoDB cannot hold them as they are."""
        with translated(page.body):
            saved = merge(self.movies, versions_of(key.id, page), self.latest())
            with self.reopening() if self._opens(key, page) else nullcontext():
                self._mark(key, page)
        return saved

    def save_list(self, name: str, page: Page) -> Saved:
        """The movies of a list that is no cell: no mark is kept."""
        with translated(page.body):
            return merge(self.movies, versions_of(name, page), self.latest())

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

    def finish(self, request: Document, at: datetime) -> None:
        """Note that the request, as `remembered` told it, lacks nothing; unless it was made anew or reopened.

        Only so that nobody computes it again every minute: what counts is what is stored.
        """
        unchanged = {name: request.get(name) for name in ("_id", "requested_at", "reopened")}
        with translated():
            self.backfills.update_one(unchanged, {"$set": {"finished_at": at}})

    def date(self, backfill_id: str, requested_at: datetime) -> None:
        """Note when the request was made, where what is noted lies beyond `latest`."""
        with translated():
            ahead = {"_id": backfill_id, "requested_at": {"$gt": self.latest()}}
            self.backfills.update_one(ahead, {"$set": {"requested_at": requested_at}})

    @contextmanager
    def reopening(self) -> Iterator[None]:
        """The block makes pages missing that were not: what was found to lack nothing may lack them now.

        Noted before, for the block may die on its way, and after: who looked in between may not have seen it.
        """
        self._reopen()
        try:
            yield
        finally:
            self._reopen()

    def _reopen(self) -> None:
        with translated():
            self.backfills.update_many({}, {"$inc": {"reopened": 1}, "$unset": {"finished_at": ""}})

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
            mark = self.pages.find_one({"fetched_at": A_TIME}, {"fetched_at": 1}, sort=[("fetched_at", 1)])
        return mark["fetched_at"] if mark else None

    def older(self, before: datetime) -> dict[Cell, datetime]:
        """By cell, when the oldest of its pages was asked for, of pages asked for before that moment."""
        found: dict[Cell, datetime] = {}
        with translated():
            marks = self.pages.find({"fetched_at": {"$lt": before}}, {"fetched_at": 1}, batch_size=AT_ONCE)
            for key, mark in keyed(marks):
                found[key.cell] = min(found.get(key.cell, before), mark["fetched_at"])
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
        journalled = self._database.with_options(write_concern=JOURNALLED)
        with self.reopening(), translated(), patience(self._database):
            return {
                name: journalled[name].delete_many({field: {"$lt": before}}).deleted_count
                for name, field in _TIMES.items()
            }

    def claim_due(self, name: str, period: timedelta, now: datetime) -> bool:
        """Whether `name` was not claimed within `period`; it is then, and only one caller is told so."""
        with translated():
            try:
                not_lately = [{"claimed_at": {"$lte": now - period}}, {"claimed_at": {"$gt": now + AHEAD}}]
                due: Document = {"_id": name, "$or": not_lately}
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
        ahead = self._stored({"fetched_at": {"$gt": self.latest()}}) if set(moments) - {None} else {}
        for moment in set(moments) - {None}:
            # Read later than `ever`: a page that was fetched anew in between is not old any more.
            old = self._stored({"fetched_at": {"$lt": moment}})
            fresh = (
                (cell, stored & ~old.get(cell, 0) & ~ahead.get(cell, 0)) for cell, stored in ever.items()
            )
            pages[moment] = {cell: stored for cell, stored in fresh if stored}
        pages = {moment: pages[moment] for moment in moments}
        with translated():
            firsts = self.pages.find({"page": 1}, {"total_pages": 1}, batch_size=AT_ONCE)
            totals = {key.cell: total for key, mark in keyed(firsts) if (total := total_of(mark)) is not None}
        return {
            moment: {
                cell: Count(stored, totals.get(cell, -1) if stored & 0b10 else -1)
                for cell, stored in cells.items()
            }
            for moment, cells in pages.items()
        }

    def quarantined(self) -> dict[PageKey | MovieKey, Document]:
        """What is in quarantine and was not stored since, without the bodies."""
        found: dict[PageKey | MovieKey, Document] = {}
        stored: dict[str, datetime] = {}
        with translated():
            for failure in self.failures.find({}, {"body": 0, "headers": 0}):
                key = read_key("failures", failure["_id"], parse_key)
                if key and isinstance(failure.get("last_at"), datetime):
                    found[key] = {**_UNTOLD, **failure}
                elif key:
                    skip("failures", failure["_id"])
            for batch in _batches(list(found)):
                pages = {"_id": {"$in": [key.id for key in batch if isinstance(key, PageKey)]}}
                movies = {"_id": {"$in": [key.movie_id for key in batch if isinstance(key, MovieKey)]}}
                for mark in self.pages.find({**pages, "fetched_at": A_TIME}, {"fetched_at": 1}):
                    stored[mark["_id"]] = mark["fetched_at"]
                for movie in self.movies.find(movies, {"_meta": 1}):
                    stored[MovieKey(movie["_id"]).id] = movie["_meta"]["fetched_at"]
        latest = self.latest()
        return {
            key: failure
            for key, failure in found.items()
            if key.id not in stored or stored[key.id] < failure["last_at"] <= latest
        }

    def failure(self, key: PageKey | MovieKey) -> Document | None:
        """What put the page or movie into quarantine, body and all."""
        with translated():
            return self.failures.find_one({"_id": key.id})

    def release(self, failures: Mapping[PageKey | MovieKey, Document]) -> None:
        """Take them out of quarantine, unless they failed again since; what a backfill lacks is missing."""
        with self.reopening(), translated():
            for key, failure in failures.items():
                self.failures.delete_one({"_id": key.id, "last_at": failure["last_at"]})

    def count_movies(self) -> int:
        """How many movies are stored, by the collection's own books: exact while MongoDB ends in order."""
        with translated():
            return self.movies.estimated_document_count()

    def count_pages(self) -> int:
        """How many pages are stored, as `count_movies` counts."""
        with translated():
            return self.pages.estimated_document_count()

    def first_pages(self) -> dict[Cell, Totals]:
        """What the page 1 of each cell says of it."""
        fields = {"total_pages": 1, "total_results": 1, "fetched_at": 1}
        with translated():
            marks = self.pages.find({"page": 1}, fields, batch_size=AT_ONCE)
            return {key.cell: totals for key, mark in keyed(marks) if (totals := Totals.of(mark))}

    def each_page(self) -> Iterator[Record]:
        """Every stored page, in no order; flat memory."""
        fields = dict.fromkeys(("page", "movie_ids", "total_pages", "total_results", "fetched_at"), 1)
        with translated():
            for key, mark in keyed(self.pages.find({}, fields)):
                yield Record.of(key, mark)

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
        for batch in _batches(ids):
            query = {"_id": {"$in": list(batch)}, "_meta.gone_at": {"$exists": False}}
            with translated():
                for movie in self.movies.find(query, {"_meta.first_seen": 1}):
                    yield movie["_id"], movie["_meta"]["first_seen"]

    def _stored(self, query: Document) -> dict[Cell, int]:
        """Pages of the marks that match, as bits by cell."""
        pages: dict[str, int] = {}  # a Cell for each of 200,000 marks would take half a second
        with translated():
            batches: Any = self.pages.find_raw_batches(query, {"_id": 1}, batch_size=AT_ONCE)
            for batch in _ahead(batches):
                for mark in bson.decode_all(batch, self.pages.codec_options):
                    cell, _, number = str(mark["_id"]).rpartition(":")
                    if bit := _BITS.get(number):
                        pages[cell] = pages.get(cell, 0) | bit
                    else:
                        skip("pages", mark["_id"])
        found: dict[Cell, int] = {}
        for cell, bits in pages.items():
            if key := read_key("pages", f"{cell}:1", PageKey.parse):
                found[key.cell] = bits
        return found

    def _totals(self, firsts: Sequence[PageKey], fresh_after: datetime | None) -> dict[str, int]:
        """total_pages by id, of the page 1s that are stored and fresh."""
        totals: dict[str, int] = {}
        for batch in _batches(firsts):
            query = self._fresh([key.id for key in batch], fresh_after)
            with translated():
                for mark in self.pages.find(query, {"total_pages": 1}):
                    if (total := total_of(mark)) is not None:
                        totals[mark["_id"]] = total
        return totals

    def _lacking(self, keys: Sequence[PageKey], fresh_after: datetime | None) -> Iterator[PageKey]:
        for batch in _batches(keys):
            ids = [key.id for key in batch]
            given_up: Document = {"_id": {"$in": ids}, "last_at": A_TIME}
            if fresh_after:
                given_up["last_at"] = since(fresh_after, self.latest())
            with translated():
                marks = self.pages.find(self._fresh(ids, fresh_after), {"total_pages": 1})
                done = {mark["_id"] for mark in marks if total_of(mark) is not None}
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
        rank, latest = (page.fetched_at, page.sha256), self.latest()
        for _ in range(ROUNDS):
            with suppress(DuplicateKeyError):
                self.pages.insert_one(mark)
                return
            stored = self.pages.find_one({"_id": key.id}, {"fetched_at": 1, "sha256": 1})
            if stored and is_ranked(stored, latest) and rank <= (stored["fetched_at"], stored["sha256"]):
                return
            if stored and self.pages.replace_one(stored, mark).matched_count:
                return
            # Replaced, or dropped, since it was read: look again.
        raise StoreAway(f"MongoDB: {ROUNDS} times in a row the record of {key.id} was not what was read")

    def _fresh(self, ids: list[str], fresh_after: datetime | None) -> Document:
        query: Document = {"_id": ids[0] if len(ids) == 1 else {"$in": ids}}
        if fresh_after:
            query["fetched_at"] = since(fresh_after, self.latest())
        return query

    def _opens(self, key: PageKey, page: Page) -> bool:
        """Whether this is a page 1 by which its cell comes to lack pages that were not missing before."""
        if key.page != 1:
            return False
        known = self.totals(key.cell)
        if known is None:
            with translated():
                return self.failures.find_one({"_id": key.id}, {"_id": 1}) is not None
        return not set(key.cell.rest(page.total_pages)) <= set(key.cell.rest(known.pages))


def _ahead(batches: Iterable[bytes]) -> Iterator[bytes]:
    """The batches, each asked for while the one before is looked at."""
    rest = iter(batches)
    with ThreadPoolExecutor(1) as one:
        coming = one.submit(next, rest, None)
        while (batch := coming.result()) is not None:
            coming = one.submit(next, rest, None)
            yield batch


def _storable(text: str) -> str:
    """Text that BSON can hold: what TMDB says may have lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


def _batches(all_: Sequence[T]) -> Iterator[Sequence[T]]:
    return (all_[start : start + BATCH] for start in range(0, len(all_), BATCH))
