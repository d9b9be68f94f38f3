"""Which pages of each cell are stored, counted by MongoDB in one pass over the page records."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from worker.keys import Cell, PageKey
from worker.storage.documents import parse_id, total_pages
from worker.storage.mongo import Document, translate_errors
from worker.storage.pages import PageStore

#: One row a cell; its length is what page 1 says.
_BY_CELL: list[Document] = [
    {
        "$group": {
            "_id": {"genre_id": "$genre_id", "window": "$window"},
            "total_pages": {"$max": {"$cond": [{"$eq": ["$page", 1]}, "$total_pages", -1]}},
            "pages": {"$push": {"page": "$page", "at": "$fetched_at"}},
        }
    }
]
#: Rows in one round trip: each may hold 500 pages.
_BATCH = 100


class Count(NamedTuple):
    """What is stored of one cell."""

    pages: set[int]
    #: What page 1 says; None while that is missing.
    total_pages: int | None


def count_pages(
    store: PageStore, moments: Collection[datetime | None], latest: datetime
) -> dict[datetime | None, dict[Cell, Count]]:
    """For each moment, what is stored of every cell and was requested since (None: ever).

    Times beyond `latest` are not believed.
    """
    counts: dict[datetime | None, dict[Cell, Count]] = {moment: {} for moment in moments}
    with translate_errors():
        for row in store.collection.aggregate(_BY_CELL, batchSize=_BATCH):
            id_ = f"{row['_id'].get('genre_id')}:{row['_id'].get('window')}:1"
            if key := parse_id("pages", id_, PageKey.parse):
                for moment, cells in counts.items():
                    pages = {page["page"] for page in row["pages"] if _is_fresh(page, moment, latest)}
                    if pages:
                        cells[key.cell] = Count(pages, total_pages(row) if 1 in pages else None)
    return counts


def _is_fresh(page: dict[str, Any], moment: datetime | None, latest: datetime) -> bool:
    at = page.get("at")
    return "page" in page and (moment is None or (isinstance(at, datetime) and moment <= at <= latest))
