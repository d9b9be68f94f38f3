"""Reads stored documents, which another version or a person may have written.

A document that cannot be read is left out and logged, so that queries of many documents go on.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple, Self, TypeGuard, TypeVar

import structlog

from worker.errors import UsageError
from worker.keys import Key, MovieKey, PageKey, parse_key
from worker.storage.mongo import EPOCH, Document

T = TypeVar("T")
log = structlog.get_logger(__name__)

#: Selects times, and no other type that a field may hold.
ANY_TIME = {"$gte": EPOCH}
#: Selects the ids of single movies among those of pages.
OF_MOVIES = {"$gte": "movie:", "$lt": "movie;"}
#: Collections for which a left-out document was logged already.
_logged: set[str] = set()


class Totals(NamedTuple):
    """What a page says about its cell, and when it was requested."""

    pages: int
    results: int
    fetched_at: datetime

    @classmethod
    def of(cls, record: Document) -> Self | None:
        """None when the page record lacks one of them."""
        pages, results, at = (record.get(name) for name in ("total_pages", "total_results", "fetched_at"))
        if _is_count(pages) and _is_count(results) and isinstance(at, datetime):
            return cls(pages, results, at)
        return None


class PageRecord(NamedTuple):
    """A page record; without totals and movies when a field is missing or wrong."""

    key: PageKey
    totals: Totals | None
    movie_ids: list[int]
    #: How many times it was asked for again because its cell's pages did not fit together.
    recheck: int = 0
    #: Of a page 1 that was asked for again: how many movies it counted before.
    counted_before: int | None = None

    def counts(self, movies: int) -> bool:
        """Whether it counts so many movies, or a number on the other side than it did before."""
        results = self.totals.results if self.totals else 0
        before = self.counted_before if self.recheck and self.counted_before is not None else results
        return min(results, before) <= movies <= max(results, before)

    @classmethod
    def of(cls, key: PageKey, record: Document) -> Self:
        totals, ids = Totals.of(record), record.get("movie_ids")
        has_page = record.get("page") == key.page
        if totals and has_page and isinstance(ids, list) and all(isinstance(id_, int) for id_ in ids):
            recheck, checked = record.get("recheck"), record.get("checked")
            before = checked.get("counted_before") if isinstance(checked, dict) else None
            return cls(
                key,
                totals,
                ids,
                recheck if _is_count(recheck) else 0,
                before if _is_count(before) else None,
            )
        return cls(key, None, [])


class Checked(NamedTuple):
    """That a cell's pages were compared with its totals: the newest of these pages, and what was found."""

    until: datetime
    #: Movies that TMDB counted and that were on no page, though asked for again.
    short: int

    @classmethod
    def of(cls, record: Document) -> Self | None:
        """The mark on the record of a page 1; None when there is none."""
        mark = record.get("checked")
        if (
            isinstance(mark, dict)
            and isinstance(mark.get("until"), datetime)
            and _is_count(mark.get("short"))
        ):
            return cls(mark["until"], mark["short"])
        return None


def total_pages(record: Document) -> int | None:
    """The total_pages of a page record; None when it has none."""
    total = record.get("total_pages")
    return total if _is_count(total) else None


def has_rank(record: Document, latest: datetime) -> bool:
    """Whether a page record can be ranked against another; not with a time beyond `latest`."""
    at = record.get("fetched_at")
    return isinstance(at, datetime) and at <= latest and isinstance(record.get("sha256"), str)


def with_keys(records: Iterable[Document]) -> Iterator[tuple[Key, Document]]:
    """Each page record with its key."""
    for record in records:
        if key := parse_id("pages", record["_id"], parse_key):
            yield key, record


def of_cells(records: Iterable[Document]) -> Iterator[tuple[PageKey, Document]]:
    """Each record of a cell's page with its key."""
    for key, record in with_keys(records):
        if isinstance(key, PageKey):
            yield key, record


def movie_ids(records: Iterable[Document]) -> set[int]:
    """The movies of which these are the records."""
    return {key.movie_id for key, _ in with_keys(records) if isinstance(key, MovieKey)}


def parse_id(collection: str, id_: object, parse: Callable[[str], T]) -> T | None:
    """Parse a document's `_id`; if that fails, log it and return None."""
    with suppress(UsageError):
        return parse(str(id_))
    log_unreadable(collection, id_)
    return None


def log_unreadable(collection: str, id_: object) -> None:
    """Log that a document is left out; once per process and collection."""
    if collection not in _logged:
        _logged.add(collection)
        log.error("unreadable document left out", collection=collection, id=f"{id_!r:.80}")


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
