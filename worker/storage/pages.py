"""The collection `pages`: a record for each stored page, from which the missing pages are computed."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime

from pymongo.errors import DuplicateKeyError

from worker.errors import MongoUnavailable
from worker.keys import Cell, PageKey
from worker.records import Page
from worker.storage.backfills import BackfillStore
from worker.storage.documents import ANY_TIME, PageRecord, Totals, has_rank, total_pages, with_keys
from worker.storage.failures import FailureStore
from worker.storage.merge import ROUNDS, Saved
from worker.storage.mongo import READ_BATCH, Document, Mongo, translate_errors
from worker.storage.movies import MovieStore
from worker.storage.selection import POPULAR_PAGES, popular_ids

_TOTALS = {"total_pages": 1, "total_results": 1, "fetched_at": 1}


class PageStore:
    """Page records. Every method raises MongoUnavailable.

    A record is written once a majority has the page's movies. A server without replicas may hold those only
    in memory, but its journal is one sequence: once the record is on disk, so are they.
    """

    def __init__(
        self, mongo: Mongo, movies: MovieStore, failures: FailureStore, backfills: BackfillStore
    ) -> None:
        self._mongo, self._movies, self._failures, self._backfills = mongo, movies, failures, backfills
        self.collection = mongo.journalled["pages"]

    def create_indexes(self) -> None:
        """Create the indexes for queries by age and for first pages."""
        with translate_errors():
            self.collection.create_index("fetched_at")
            self.collection.create_index("page")

    def is_fresh(self, key: PageKey, fresh_after: datetime | None) -> bool:
        """Whether the page is stored and was not requested before `fresh_after`."""
        return key.id in self._stored([key.id], fresh_after)

    def totals(self, cell: Cell) -> Totals | None:
        """What the cell's page 1 says; None when that is not stored."""
        with translate_errors():
            record = self.collection.find_one({"_id": cell.page(1).id}, _TOTALS)
        return Totals.of(record) if record else None

    def save(self, key: PageKey, page: Page) -> Saved:
        """Save the page's movies, then its record; Unstorable when MongoDB cannot hold them."""
        saved = self._movies.save_page(key.id, page)
        reopening = self._backfills.reopening() if self._adds_missing(key, page) else nullcontext()
        with reopening, translate_errors(page.body):
            self._save_record(key, page)
        return saved

    def drop_beyond(self, cell: Cell, last_page: int, fetched_at: datetime) -> int:
        """Delete the cell's records beyond `last_page`; returns how many.

        `last_page` is what a page 1 requested at `fetched_at` says; call this before saving that page. Movies
        are kept, and so are records requested later.
        """
        known = self.totals(cell)
        if known is None or known.fetched_at > fetched_at:
            return 0
        kept = set(cell.rest(last_page))
        surplus = [key for key in cell.rest(known.pages) if key not in kept]
        if not surplus:
            return 0
        with self._backfills.reopening():  # until page 1 is saved, what is deleted here is missing
            # If the cell was split before, its halves have pages of their own.
            dropped = sum(self.drop_beyond(key.cell, 0, fetched_at) for key in surplus if key.cell != cell)
            for batch in self._mongo.batches(key.id for key in surplus):
                query = {"_id": {"$in": batch}, "fetched_at": {"$lt": fetched_at}}
                with translate_errors():
                    dropped += self.collection.delete_many(query).deleted_count
        return dropped

    def missing(self, cells: Iterable[Cell], fresh_after: datetime | None) -> Iterator[PageKey]:
        """The pages that the cells lack, roughly in the cells' order.

        A cell without page 1 lacks that page; its others are not known yet. A page in quarantine is not
        missing.
        """
        for batch in self._mongo.batches(cells):
            lengths = self._lengths(batch, fresh_after)
            needed: list[PageKey] = []
            for cell in batch:
                length = lengths.get(cell)
                rest = [cell.page(1)] if length is None else cell.rest(length)
                if rest and rest[0].cell != cell:
                    yield from self.missing((key.cell for key in rest), fresh_after)
                else:
                    needed += rest
            yield from self._not_done(needed, fresh_after)

    def oldest(self) -> datetime | None:
        """When the oldest page was requested; None when there is none."""
        with translate_errors():
            record = self.collection.find_one(
                {"fetched_at": ANY_TIME}, {"fetched_at": 1}, sort=[("fetched_at", 1)]
            )
        return record["fetched_at"] if record else None

    def cells_fetched_before(self, moment: datetime) -> dict[Cell, datetime]:
        """Cells with pages requested before that moment, and when the oldest of each was."""
        found: dict[Cell, datetime] = {}
        with translate_errors():
            records = self.collection.find(
                {"fetched_at": {"$lt": moment}}, {"fetched_at": 1}, batch_size=READ_BATCH
            )
            for key, record in with_keys(records):
                found[key.cell] = min(found.get(key.cell, moment), record["fetched_at"])
        return found

    def count_fetched_before(self, moment: datetime) -> int:
        """How many pages were last requested before that moment."""
        with translate_errors():
            return self.collection.count_documents({"fetched_at": {"$lt": moment}})

    def count(self) -> int:
        """How many pages are stored, by the collection's metadata: inexact after MongoDB was killed."""
        with translate_errors():
            return self.collection.estimated_document_count()

    def first_pages(self) -> dict[Cell, Totals]:
        """What the page 1 of each cell says."""
        with translate_errors():
            records = self.collection.find({"page": 1}, _TOTALS, batch_size=READ_BATCH)
            return {key.cell: totals for key, record in with_keys(records) if (totals := Totals.of(record))}

    def popular_ids(self) -> list[int]:
        """Ids of the most popular movies, by rank, each once."""
        with translate_errors():
            return popular_ids(self.collection.find(POPULAR_PAGES, {"movie_ids": 1}))

    def each(self) -> Iterator[PageRecord]:
        """Every stored page, in no order; flat memory."""
        fields = {**_TOTALS, "page": 1, "movie_ids": 1}
        with translate_errors():
            for key, record in with_keys(self.collection.find({}, fields)):
                yield PageRecord.of(key, record)

    def _lengths(self, cells: Sequence[Cell], fresh_after: datetime | None) -> dict[Cell, int]:
        """The total_pages of each cell whose page 1 is stored and fresh."""
        firsts = {cell.page(1).id: cell for cell in cells}
        found = self._stored(list(firsts), fresh_after)
        return {firsts[id_]: length for id_, length in found.items()}

    def _not_done(self, keys: Sequence[PageKey], fresh_after: datetime | None) -> Iterator[PageKey]:
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

    def _save_record(self, key: PageKey, page: Page) -> None:
        record = {
            "_id": key.id,
            **key._asdict(),
            "total_pages": page.total_pages,
            "total_results": page.total_results,
            "movie_ids": [movie["id"] for movie in page.results],
            "fetched_at": page.fetched_at,
            "sha256": page.sha256,
        }
        rank, latest = (page.fetched_at, page.sha256), self._mongo.latest()
        for _ in range(ROUNDS):
            with suppress(DuplicateKeyError):
                self.collection.insert_one(record)
                return
            stored = self.collection.find_one({"_id": key.id}, {"fetched_at": 1, "sha256": 1})
            if stored and has_rank(stored, latest) and rank <= (stored["fetched_at"], stored["sha256"]):
                return
            if stored and self.collection.replace_one(stored, record).matched_count:
                return
            # It was replaced or deleted since it was read.
        raise MongoUnavailable(
            f"MongoDB: {ROUNDS} times in a row the record of {key.id} was not what was read"
        )

    def _adds_missing(self, key: PageKey, page: Page) -> bool:
        """Whether this is a page 1 that makes its cell lack pages that were not missing before."""
        if key.page != 1:
            return False
        known = self.totals(key.cell)
        if known is None:
            return self._failures.get(key) is not None
        return not set(key.cell.rest(page.total_pages)) <= set(key.cell.rest(known.pages))
