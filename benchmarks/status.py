"""Time and memory of `reelhaul status` with 200,000 page records in the embedded MongoDB.

The backfill wants pages that are no older than a day; one in a hundred is. The whole command is timed.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, product
from pathlib import Path
from typing import Any

import pymongo

from producer.enqueue import Backfill
from sandbox.fleet import Fleet
from sandbox.servers import EmbeddedMongo, EmbeddedRedis
from worker.keys import Cell
from worker.storage.database import Storage

GENRES, YEARS, PAGES = range(1, 20), range(1896, 2026), 81
AT = datetime.now(UTC).replace(microsecond=0)
#: For an idle machine with two cores.
BOUND_S = 8.0
#: Megabytes that 200,000 records may add: the counts of 2,470 cells, one batch of records, and the JSON.
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
    """Exit code 0 when both bounds are kept."""
    with tempfile.TemporaryDirectory() as folder, Fleet(os.environ, Path(folder)) as fleet:
        fleet.serve(EmbeddedRedis(appendonly=False))
        server = fleet.serve(EmbeddedMongo())
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(server.url, tz_aware=True)
        storage = Storage(client["reelhaul"])
        # Requested first, as in a fleet: the records are written with the index that this creates.
        names = {genre: f"Genre {genre}" for genre in GENRES}
        wanted = Backfill(names, tuple(YEARS), timedelta(days=1), AT)
        storage.pages.create_indexes()
        storage.requests.save(wanted.id, wanted.to_document())
        _, empty_mb = status(fleet.environment)
        records = page_records()
        while batch := list(islice(records, 2_000)):
            storage.pages.collection.insert_many(batch, ordered=False)
        client.close()
        started = time.monotonic()
        backfill, peak_mb = status(fleet.environment)
        seconds = round(time.monotonic() - started, 2)
    figures = {
        "records": backfill["pages_stored"],
        "seconds": seconds,
        "peak_mb": peak_mb,
        "empty_mb": empty_mb,
    }
    print(json.dumps(figures) if "--json" in arguments else ", ".join(f"{k} {v}" for k, v in figures.items()))
    return int(seconds > BOUND_S or peak_mb - empty_mb > BOUND_MB)


def status(environment: dict[str, str]) -> tuple[dict[str, Any], int]:
    """The backfill in `reelhaul status --json`, and the command's peak memory in megabytes."""
    ran = subprocess.run(
        [sys.executable, "-c", STATUS],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    [backfill] = json.loads(ran.stdout)
    return backfill, int(ran.stderr.split()[-1])


def page_records() -> Iterator[dict[str, Any]]:
    """Page records as workers write them."""
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
