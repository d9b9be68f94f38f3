"""Which pages of each list are stored, in one reading of all page records."""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from worker.keys import ListKey
from worker.storage.documents import Checked, total_pages, with_keys
from worker.storage.mongo import EPOCH, READ_BATCH, translate_errors
from worker.storage.pages import PageStore


class Count(NamedTuple):
    """What is stored of one list."""

    pages: set[int]
    #: What page 1 says; None while that is missing.
    total_pages: int | None
    #: When the newest of them was requested.
    newest: datetime | None = None
    #: Whether they were compared with the totals.
    checked: Checked | None = None


def count_pages(
    store: PageStore, moments: Collection[datetime | None], latest: datetime
) -> dict[datetime | None, dict[str, Count]]:
    """For each moment, what is stored of every list, by its id, and was requested since (None: ever).

    Times beyond `latest` are not believed.
    """
    pages: dict[datetime | None, defaultdict[str, set[int]]] = {
        moment: defaultdict(set) for moment in moments
    }
    newest: dict[datetime | None, dict[str, datetime]] = {moment: {} for moment in moments}
    lengths: dict[str, int | None] = {}
    checks: dict[str, Checked | None] = {}
    with translate_errors():
        fields = {"total_pages": 1, "fetched_at": 1, "checked": 1}
        for key, record in with_keys(store.collection.find({}, fields, batch_size=READ_BATCH)):
            if not isinstance(key, ListKey):
                continue
            list_id, at = record["_id"].rpartition(":")[0], record.get("fetched_at")
            if key.page == 1:
                lengths[list_id] = total_pages(record)
                checks[list_id] = Checked.of(record)
            for moment, stored in pages.items():
                if moment is None or (isinstance(at, datetime) and moment <= at <= latest):
                    stored[list_id].add(key.page)
                    latest_of = newest[moment]
                    if isinstance(at, datetime) and at > latest_of.get(list_id, EPOCH):
                        latest_of[list_id] = at
    return {
        moment: {
            list_id: Count(
                numbers,
                lengths.get(list_id) if 1 in numbers else None,
                newest[moment].get(list_id),
                checks.get(list_id),
            )
            for list_id, numbers in stored.items()
        }
        for moment, stored in pages.items()
    }
