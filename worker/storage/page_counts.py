"""How many pages of each cell are stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

import bson

from worker.keys import MAX_PAGE, Cell, PageKey
from worker.storage.documents import log_unreadable, parse_id, total_pages, with_keys
from worker.storage.mongo import READ_BATCH, Document, translate_errors
from worker.storage.pages import PageStore

#: Page n as bit n, by how its number is written.
_BITS = {f"{number}": 1 << number for number in range(1, MAX_PAGE + 1)}


class Count(NamedTuple):
    """What is stored of one cell."""

    #: Bit n is set when page n is stored.
    pages: int
    #: What page 1 says; -1 while that is missing.
    total_pages: int


def count_pages(
    store: PageStore, latest: datetime, moments: Collection[datetime | None]
) -> dict[datetime | None, dict[Cell, Count]]:
    """For each moment, what is stored of every cell of pages fetched then or later (None: ever)."""
    ever = _stored(store, {})
    pages: dict[datetime | None, dict[Cell, int]] = {None: ever}
    ahead = _stored(store, {"fetched_at": {"$gt": latest}}) if set(moments) - {None} else {}
    for moment in set(moments) - {None}:
        # Read later than `ever`: a page that was fetched anew in between is not old any more.
        old = _stored(store, {"fetched_at": {"$lt": moment}})
        fresh = ((cell, stored & ~old.get(cell, 0) & ~ahead.get(cell, 0)) for cell, stored in ever.items())
        pages[moment] = {cell: stored for cell, stored in fresh if stored}
    pages = {moment: pages[moment] for moment in moments}
    with translate_errors():
        firsts = store.collection.find({"page": 1}, {"total_pages": 1}, batch_size=READ_BATCH)
        totals = {
            key.cell: total for key, record in with_keys(firsts) if (total := total_pages(record)) is not None
        }
    return {
        moment: {
            cell: Count(stored, totals.get(cell, -1) if stored & 0b10 else -1)
            for cell, stored in cells.items()
        }
        for moment, cells in pages.items()
    }


def _stored(store: PageStore, query: Document) -> dict[Cell, int]:
    """Pages of the records that match, as bits by cell."""
    pages: dict[str, int] = {}  # a Cell for each of 200,000 records would take half a second
    with translate_errors():
        batches: Any = store.collection.find_raw_batches(query, {"_id": 1}, batch_size=READ_BATCH)
        for batch in _ahead(batches):
            for record in bson.decode_all(batch, store.collection.codec_options):
                cell, _, number = str(record["_id"]).rpartition(":")
                if bit := _BITS.get(number):
                    pages[cell] = pages.get(cell, 0) | bit
                else:
                    log_unreadable("pages", record["_id"])
    found: dict[Cell, int] = {}
    for cell, bits in pages.items():
        if key := parse_id("pages", f"{cell}:1", PageKey.parse):
            found[key.cell] = bits
    return found


def _ahead(batches: Iterable[bytes]) -> Iterator[bytes]:
    """The batches, each asked for while the one before is looked at."""
    rest = iter(batches)
    with ThreadPoolExecutor(1) as one:
        coming = one.submit(next, rest, None)
        while (batch := coming.result()) is not None:
            coming = one.submit(next, rest, None)
            yield batch
