"""`reelhaul status` on a store of 200,000 page marks on the embedded MongoDB: seconds, and flat memory.

Asked for pages that are not older than a day; one in a hundred is. Timed is the whole command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, product
from typing import Any

import pymongo

from producer.enqueue import Backfill
from sandbox.servers import EmbeddedMongo, EmbeddedRedis
from worker.keys import Cell
from worker.storage.database import Storage

GENRES, YEARS, PAGES = range(1, 20), range(1896, 2026), 81
AT = datetime.now(UTC).replace(microsecond=0)
#: What an idle machine with two cores must keep.
BOUND_S = 8.0
#: Megabytes that 200,000 marks may add: the counts of 2,470 cells, one batch of marks, and the JSON.
BOUND_MB = 60
STATUS = """
import resource, sys
from producer.cli.main import main
sys.argv = ["reelhaul", "status", "--json"]
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
"""


def main(arguments: list[str]) -> int:
    """Exit code 0 when both bounds hold."""
    with EmbeddedMongo() as server, EmbeddedRedis(appendonly=False) as redis:
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(server.url, tz_aware=True)
        environment = {**os.environ, "MONGO_URL": f"{server.url}/reelhaul", "REDIS_URL": redis.url}
        storage = Storage(client["reelhaul"])
        # Asked for first, as the fleet has it: the marks are written beside the index that this leaves.
        names = {genre: f"Genre {genre}" for genre in GENRES}
        wanted = Backfill(names, tuple(YEARS), timedelta(days=1), AT)
        storage.pages.create_indexes()
        storage.backfills.save(wanted.id, wanted.document())
        _, empty_mb = ask(environment)
        everything = marks()
        while batch := list(islice(everything, 2_000)):
            storage.pages.collection.insert_many(batch, ordered=False)
        client.close()
        begun = time.monotonic()
        told, peak_mb = ask(environment)
        seconds = round(time.monotonic() - begun, 2)
    figures = {"marks": told["pages_stored"], "seconds": seconds, "peak_mb": peak_mb, "empty_mb": empty_mb}
    print(json.dumps(figures) if "--json" in arguments else ", ".join(f"{k} {v}" for k, v in figures.items()))
    return int(seconds > BOUND_S or peak_mb - empty_mb > BOUND_MB)


def ask(environment: dict[str, str]) -> tuple[dict[str, Any], int]:
    """What `reelhaul status --json` says of the backfill, and the most memory it had, in megabytes."""
    ran = subprocess.run(
        [sys.executable, "-c", STATUS],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    [told] = json.loads(ran.stdout)
    return told, int(ran.stderr.split()[-1])


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
