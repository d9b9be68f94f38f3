"""Which pages of each cell are stored, in one reading of all page records."""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from worker.keys import Cell
from worker.storage.documents import total_pages, with_keys
from worker.storage.mongo import READ_BATCH, translate_errors
from worker.storage.pages import PageStore


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
    pages: dict[datetime | None, defaultdict[Cell, set[int]]] = {
        moment: defaultdict(set) for moment in moments
    }
    lengths: dict[Cell, int | None] = {}
    with translate_errors():
        fields = {"total_pages": 1, "fetched_at": 1}
        for key, record in with_keys(store.collection.find({}, fields, batch_size=READ_BATCH)):
            cell, at = key.cell, record.get("fetched_at")
            if key.page == 1:
                lengths[cell] = total_pages(record)
            for moment, stored in pages.items():
                if moment is None or (isinstance(at, datetime) and moment <= at <= latest):
                    stored[cell].add(key.page)
    return {
        moment: {
            cell: Count(numbers, lengths.get(cell) if 1 in numbers else None)
            for cell, numbers in stored.items()
        }
        for moment, stored in pages.items()
    }
