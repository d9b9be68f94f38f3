"""The collection `pages`: a record for each stored page, from which the missing pages are computed."""

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime

from pymongo import UpdateOne
from pymongo.errors import DuplicateKeyError

from worker.errors import MongoUnavailable
from worker.keys import Cell, Key, ListKey, MovieKey, PagedList, PageKey, PopularKey, TotalsKey
from worker.records import Page
from worker.storage.documents import (
    ANY_TIME,
    OF_MOVIES,
    Checked,
    PageRecord,
    Totals,
    has_rank,
    movie_ids,
    of_cells,
    total_pages,
)
from worker.storage.failures import FailureStore
from worker.storage.merge import ROUNDS, Saved
from worker.storage.mongo import EPOCH, READ_BATCH, Document, Mongo, translate_errors
from worker.storage.movies import MovieStore
from worker.storage.requests import RequestStore
from worker.storage.selection import POPULAR_PAGES, popular_ids

_TOTALS = {"total_pages": 1, "total_results": 1, "fetched_at": 1}
_WHOLE = {**_TOTALS, "page": 1, "movie_ids": 1, "recheck": 1, "checked": 1}
#: Selects the pages of cells: their ids begin with a digit.
_OF_CELLS = {"_id": {"$lt": ":"}}
_OF_POPULAR = {"_id": {"$gte": "popular:", "$lt": "popular;"}}


class PageStore:
    """Page records. Every method raises MongoUnavailable.

    A record is written once a majority has the page's movies. A server without replicas may hold those only
    in memory, but its journal is one sequence: once the record is on disk, so are they.
    """

    def __init__(
        self, mongo: Mongo, movies: MovieStore, failures: FailureStore, requests: RequestStore
    ) -> None:
        self._mongo, self._movies, self._failures, self._requests = mongo, movies, failures, requests
        self.collection = mongo.journalled["pages"]

    def create_indexes(self) -> None:
        """Create the indexes for queries by age and for first pages."""
        with translate_errors():
            self.collection.create_index("fetched_at")
            self.collection.create_index("page")

    def is_fresh(self, key: Key, fresh_after: datetime | None) -> bool:
        """Whether the page is stored and was not requested before `fresh_after`."""
        return key.id in self._stored([key.id], fresh_after)

    def totals(self, key: Key) -> Totals | None:
        """What the page says about its list; None when it is not stored."""
        return self._totals([key.id]).get(key.id)

    def times(self, ids: Iterable[str]) -> dict[str, datetime]:
        """When those of the ids that have a record were last requested; times in the future are ignored."""
        found: dict[str, datetime] = {}
        for batch in self._mongo.batches(ids):
            query = {"_id": {"$in": batch}, "fetched_at": self._mongo.since(EPOCH)}
            with translate_errors():
                records = self.collection.find(query, {"fetched_at": 1})
                found.update((record["_id"], record["fetched_at"]) for record in records)
        return found

    def save(self, key: PageKey | PopularKey, page: Page, recheck: int = 0) -> Saved:
        """Save the page's movies, then its record; Unstorable when MongoDB cannot hold them.

        `recheck`: see PageRecord.
        """
        saved = self._movies.save_page(key.id, page)
        adds_missing = isinstance(key, PageKey) and self._adds_missing(key, page)
        with self._requests.reopening() if adds_missing else nullcontext():
            self.save_record(key, page, recheck=recheck)
        return saved

    def save_record(
        self, key: Key, page: Page, earliest: Document | None = None, *, recheck: int = 0
    ) -> None:
        """Save the record of a page unless a newer one is stored; Unstorable.

        `earliest`: further fields, times of which the earliest is kept whatever record is newer.
        """
        record = {
            **key._asdict(),
            "total_pages": page.total_pages,
            "total_results": page.total_results,
            "movie_ids": [movie["id"] for movie in page.results],
            "fetched_at": page.fetched_at,
            "sha256": page.sha256,
            "recheck": recheck,
        }
        with translate_errors(page.body):
            if earliest:
                self.collection.update_one({"_id": key.id}, {"$min": earliest}, upsert=True)
            self._replace(key, record)

    def save_gone(self, key: MovieKey, at: datetime) -> None:
        """Record that TMDB has no such movie, in place of the movie."""
        with translate_errors():
            self.collection.delete_one({"_id": key.id, "fetched_at": {"$gt": self._mongo.latest()}})
            self.collection.update_one({"_id": key.id}, {"$max": {"fetched_at": at}}, upsert=True)

    def drop_beyond(self, cell: Cell, last_page: int, fetched_at: datetime) -> int:
        """Delete the cell's records beyond `last_page`; returns how many.

        `last_page` is what a page 1 requested at `fetched_at` says; call this before saving that page. Movies
        are kept, and so are records requested later.
        """
        known = self.totals(cell.page(1))
        if known is None or known.fetched_at > fetched_at:
            return 0
        kept = set(cell.rest(last_page))
        surplus = [key for key in cell.rest(known.pages) if key not in kept]
        if not surplus:
            return 0
        with self._requests.reopening():  # until page 1 is saved, what is deleted here is missing
            # If the cell was split before, its halves have pages of their own.
            dropped = sum(self.drop_beyond(key.cell, 0, fetched_at) for key in surplus if key.cell != cell)
            for batch in self._mongo.batches(key.id for key in surplus):
                query = {"_id": {"$in": batch}, "fetched_at": {"$lt": fetched_at}}
                with translate_errors():
                    dropped += self.collection.delete_many(query).deleted_count
        return dropped

    def movies_gone_since(self, moment: datetime) -> set[int]:
        """Ids of the movies of which TMDB said since then that it has none, and that were not stored."""
        query = {"_id": OF_MOVIES, "fetched_at": self._mongo.since(moment)}
        with translate_errors():
            return movie_ids(self.collection.find(query, {"_id": 1}))

    def missing(self, lists: Iterable[PagedList], fresh_after: datetime | None) -> Iterator[ListKey]:
        """The pages that the lists lack, roughly in the lists' order.

        A list without page 1 lacks that page; its others are not known yet. A page in quarantine is not
        missing.
        """
        for batch in self._mongo.batches(lists):
            lengths = self._stored([wanted.page(1).id for wanted in batch], fresh_after)
            needed: list[ListKey] = []
            for wanted in batch:
                first = wanted.page(1)
                length = lengths.get(first.id)
                if length is None:
                    needed.append(first)
                    continue
                needed += (wanted.page(number) for number in wanted.pages(length)[1:])
                yield from self.missing(wanted.parts(length), fresh_after)
            yield from self._not_done(needed, fresh_after)

    def changed_cells(self, cells: Iterable[Cell], since: datetime) -> Iterator[tuple[Cell, datetime]]:
        """The cells of which page 1 states other totals than was last found, or was requested since then.

        With when the totals were found. Cells of which either is not stored are left out.
        """
        for batch in self._mongo.batches(cells):
            found = self._totals(TotalsKey(*cell).id for cell in batch)
            stored = self._totals(cell.page(1).id for cell in batch)
            for cell in batch:
                latest, first = found.get(TotalsKey(*cell).id), stored.get(cell.page(1).id)
                if latest and first and since <= latest.fetched_at <= self._mongo.latest():
                    is_newer = first.fetched_at >= latest.fetched_at
                    if is_newer or first[:2] != latest[:2]:
                        yield cell, latest.fetched_at

    def oldest(self) -> datetime | None:
        """When the oldest page with movies was requested; None when there is none."""
        found = []
        for ids in (_OF_CELLS, _OF_POPULAR):
            query = {"fetched_at": ANY_TIME, **ids}
            with translate_errors():
                found.append(self.collection.find_one(query, {"fetched_at": 1}, sort=[("fetched_at", 1)]))
        return min((record["fetched_at"] for record in found if record), default=None)

    def cells_fetched_before(self, moment: datetime) -> dict[Cell, datetime]:
        """Cells with pages requested before that moment, and when the oldest of each was."""
        found: dict[Cell, datetime] = {}
        with translate_errors():
            records = self.collection.find(
                {"fetched_at": {"$lt": moment}}, {"fetched_at": 1}, batch_size=READ_BATCH
            )
            for key, record in of_cells(records):
                found[key.cell] = min(found.get(key.cell, moment), record["fetched_at"])
        return found

    def count_fetched_before(self, moment: datetime) -> int:
        """How many pages of cells were last requested before that moment."""
        with translate_errors():
            return self.collection.count_documents({"fetched_at": {"$lt": moment}, **_OF_CELLS})

    def count(self) -> int:
        """How many pages are stored, by the collection's metadata: inexact after MongoDB was killed."""
        with translate_errors():
            return self.collection.estimated_document_count()

    def first_pages(self) -> dict[Cell, Totals]:
        """What the page 1 of each cell says."""
        with translate_errors():
            records = self.collection.find({"page": 1}, _TOTALS, batch_size=READ_BATCH)
            return {key.cell: totals for key, record in of_cells(records) if (totals := Totals.of(record))}

    def popular_ids(self) -> list[int]:
        """Ids of the most popular movies, by rank, each once."""
        with translate_errors():
            return popular_ids(self.collection.find(POPULAR_PAGES, {"movie_ids": 1}))

    def of_cell(self, cell: Cell) -> list[PageRecord]:
        """The own pages that the cell needs, as far as stored, by number; without those of its parts."""
        with translate_errors():  # by ids: SecantusDB reads everything for a range of them
            first = self.collection.find_one({"_id": cell.page(1).id}, _WHOLE)
            found = [first] if first else []
            numbers = cell.pages(total_pages(first) or 1)[1:] if first else ()
            for batch in self._mongo.batches(cell.page(number).id for number in numbers):
                found += self.collection.find({"_id": {"$in": batch}}, _WHOLE)
            records = [PageRecord.of(*one) for one in of_cells(found)]
        return sorted(records, key=lambda record: record.key.page)

    def mark_checked(self, checks: Iterable[tuple[Cell, Checked]]) -> None:
        """Record which cells' pages were compared, until when, and how many movies they lack."""
        updates = []
        for cell, (until, short) in checks:
            change: Document = {"checked.until": until, "checked.short": short}
            if not short:
                change["checked.repairs"] = 0
            updates.append(UpdateOne({"_id": cell.page(1).id}, {"$set": change}))
        if updates:
            with translate_errors():
                self.collection.bulk_write(updates, ordered=False)

    def note_count(self, cell: Cell, movies: int) -> None:
        """Record how many movies the cell's page 1 counted before it is asked for again."""
        with translate_errors():
            change = {"$set": {"checked.counted_before": movies}}
            self.collection.update_one({"_id": cell.page(1).id}, change)

    def begin_repair(self, cell: Cell, limit: int) -> bool:
        """Count one more repair of the cell; False when it had `limit` since it was last complete."""
        few = {"_id": cell.page(1).id, "checked.repairs": {"$not": {"$gte": limit}}}
        with translate_errors():
            return bool(self.collection.update_one(few, {"$inc": {"checked.repairs": 1}}).matched_count)

    def unreachable(self, day: Cell) -> int:
        """How many movies of a day TMDB counts and shows on no page, as far as its pages are stored."""
        pages = {"_id": {"$gte": f"{day.id},", "$lt": f"{day.id};"}}  # the day's, its end's, its languages'
        found: set[int] = set()
        with translate_errors():
            for key, record in of_cells(self.collection.find(pages, _WHOLE)):
                found.update(PageRecord.of(key, record).movie_ids)
        totals = self.totals(day.page(1))
        return max(0, totals.results - len(found)) if totals else 0

    def each(self) -> Iterator[PageRecord]:
        """Every stored page of a cell, in no order; flat memory."""
        with translate_errors():
            for key, record in of_cells(self.collection.find(_OF_CELLS, _WHOLE)):
                yield PageRecord.of(key, record)

    def sample(self, number: int) -> list[PageRecord]:
        """So many of the stored pages of cells, or all, chosen at random."""
        chosen: list[PageRecord] = []
        for seen, record in enumerate(self.each()):
            if seen < number:
                chosen.append(record)
            elif (place := random.randrange(seen + 1)) < number:  # noqa: S311 -- no secret
                chosen[place] = record
        return chosen

    def _totals(self, ids: Iterable[str]) -> dict[str, Totals]:
        """What those of the ids that are stored say."""
        with translate_errors():
            records = self.collection.find({"_id": {"$in": list(ids)}}, _TOTALS)
            return {record["_id"]: totals for record in records if (totals := Totals.of(record))}

    def _not_done(self, keys: Sequence[ListKey], fresh_after: datetime | None) -> Iterator[ListKey]:
        """Those neither stored nor in quarantine since `fresh_after`."""
        for batch in self._mongo.batches(keys):
            ids = [key.id for key in batch]
            done = {*self._stored(ids, fresh_after), *self._failures.failed(ids, fresh_after)}
            yield from (key for key in batch if key.id not in done)

    def _stored(self, ids: list[str], fresh_after: datetime | None) -> dict[str, int]:
        """The total_pages of those of the ids that are stored and were requested since `fresh_after`."""
        query: Document = {"_id": ids[0] if len(ids) == 1 else {"$in": ids}}
        if fresh_after:
            query["fetched_at"] = self._mongo.since(fresh_after)
        with translate_errors():
            records = self.collection.find(query, {"total_pages": 1})
            return {record["_id"]: total for record in records if (total := total_pages(record)) is not None}

    def _replace(self, key: Key, record: Document) -> None:
        """Set the record's fields unless the stored ones rank higher."""
        rank, latest = (record["fetched_at"], record["sha256"]), self._mongo.latest()
        for _ in range(ROUNDS):
            with suppress(DuplicateKeyError):
                self.collection.insert_one({"_id": key.id, **record})
                return
            stored = self.collection.find_one({"_id": key.id}, {"fetched_at": 1, "sha256": 1})
            if stored and has_rank(stored, latest) and rank <= (stored["fetched_at"], stored["sha256"]):
                return
            unchanged = {name: (stored or {}).get(name) for name in ("_id", "fetched_at", "sha256")}
            if stored and self.collection.update_one(unchanged, {"$set": record}).matched_count:
                return
            # It was replaced or deleted since it was read.
        raise MongoUnavailable(
            f"MongoDB: {ROUNDS} times in a row the record of {key.id} was not what was read"
        )

    def _adds_missing(self, key: PageKey, page: Page) -> bool:
        """Whether this is a page 1 that makes its cell lack pages that were not missing before."""
        if key.page != 1:
            return False
        known = self.totals(key)
        if known is None:
            return self._failures.get(key) is not None
        return not set(key.cell.rest(page.total_pages)) <= set(key.cell.rest(known.pages))
