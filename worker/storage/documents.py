"""What of a stored document can be read. Another version, or a person, may have written one that cannot.

Such a document is left out, and the log says so: it must not end what looks at all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple, TypeGuard, TypeVar

import structlog

from worker.errors import UsageError
from worker.keys import PageKey
from worker.storage.mongo import EPOCH, Document

T = TypeVar("T")
log = structlog.get_logger(__name__)

#: Selects what is a time, and nothing else that a field may hold.
A_TIME = {"$gte": EPOCH}
#: Collections of which it was said that a document is left out.
_said: set[str] = set()


class Totals(NamedTuple):
    """What a page says of its cell, and when it was asked for."""

    pages: int
    results: int
    fetched_at: datetime

    @classmethod
    def of(cls, record: Document) -> Totals | None:
        """None where the page record does not have them."""
        pages, results, at = (record.get(name) for name in ("total_pages", "total_results", "fetched_at"))
        if _is_count(pages) and _is_count(results) and isinstance(at, datetime):
            return cls(pages, results, at)
        return None


class Record(NamedTuple):
    """A page record: None and no movies where it does not have what it should."""

    key: PageKey
    totals: Totals | None
    movie_ids: list[int]

    @classmethod
    def of(cls, key: PageKey, record: Document) -> Record:
        totals, ids = Totals.of(record), record.get("movie_ids")
        if not totals or not isinstance(ids, list) or record.get("page") != key.page:
            return cls(key, None, [])
        return cls(key, totals, ids) if all(isinstance(id_, int) for id_ in ids) else cls(key, None, [])


def total_of(record: Document) -> int | None:
    """The total_pages of a page record; None where it has none."""
    total = record.get("total_pages")
    return total if _is_count(total) else None


def is_ranked(record: Document, latest: datetime) -> bool:
    """Whether a page record says which of two answers it is; a time beyond `latest` is not believed."""
    at = record.get("fetched_at")
    return isinstance(at, datetime) and at <= latest and isinstance(record.get("sha256"), str)


def keyed(records: Iterable[Document]) -> Iterator[tuple[PageKey, Document]]:
    """Each page record with its key."""
    for record in records:
        if key := read_key("pages", record["_id"], PageKey.parse):
            yield key, record


def read_key(collection: str, id_: object, parse: Callable[[str], T]) -> T | None:
    """The key that a document's `_id` is; None, and the log says so, when it is none."""
    with suppress(UsageError):
        return parse(str(id_))
    skip(collection, id_)
    return None


def skip(collection: str, id_: object) -> None:
    """Say that a document is left out: once a process and collection, with the first of them."""
    if collection not in _said:
        _said.add(collection)
        log.error("document left out: it is none of ours", collection=collection, id=f"{id_!r:.80}")


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
