"""`reelhaul status` on a store of 200,000 page marks on the embedded MongoDB: seconds, and flat memory.

Asked for pages that are not older than a day; one in a hundred is.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, product
from typing import Any

import pymongo

from producer.enqueue import Backfill
from producer.status import measure_all
from sandbox.servers import EmbeddedMongo
from worker.pages import Cell
from worker.store import Store

GENRES, YEARS, PAGES = range(1, 20), range(1896, 2026), 81
AT = datetime(2026, 1, 1, tzinfo=UTC)
#: What an idle machine with two cores must keep.
BOUND_S = 8.0
#: Megabytes that answering may add: the counts of 2,470 cells and one batch of marks.
BOUND_MB = 40


def main(arguments: list[str]) -> int:
    """Exit code 0 when both bounds hold."""
    with EmbeddedMongo() as server:
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(server.url, tz_aware=True)
        store = Store(client["reelhaul"])
        # Asked for first, as the fleet has it: the marks are written beside the index that this leaves.
        names = {genre: f"Genre {genre}" for genre in GENRES}
        wanted = Backfill(names, tuple(YEARS), timedelta(days=1), AT)
        store.remember(wanted.id, wanted.document())
        everything = marks()
        while batch := list(islice(everything, 2_000)):
            store.pages.insert_many(batch, ordered=False)
        before_mb, begun = peak_mb(), time.monotonic()
        [progress] = measure_all(store)
        figures = {
            "marks": progress.total.stored,
            "seconds": round(time.monotonic() - begun, 2),
            "more_mb": round(peak_mb() - before_mb, 1),
        }
        client.close()
    print(json.dumps(figures) if "--json" in arguments else ", ".join(f"{k} {v}" for k, v in figures.items()))
    return int(figures["seconds"] > BOUND_S or figures["more_mb"] > BOUND_MB)


def marks() -> Iterator[dict[str, Any]]:
    """As workers write them."""
    for number, (genre, year, page) in enumerate(product(GENRES, YEARS, range(1, PAGES + 1))):
        yield {
            "_id": Cell(genre, str(year)).page(page).id,
            "genre_id": genre,
            "window": str(year),
            "page": page,
            "total_pages": PAGES,
            "total_results": 20 * PAGES,
            "movie_ids": list(range(number, number + 20)),
            "fetched_at": AT - timedelta(days=2) if number % 100 == 0 else AT,
            "sha256": "0" * 64,
        }


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
