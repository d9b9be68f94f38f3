"""What the index for analysts' queries (genre_ids, release_date) costs a stored page; embedded MongoDB.

Pages of 20 new movies are stored in turn into two databases of one server, one with the index. The order
changes from pair to pair, and the medians of all pages are compared.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pymongo

from sandbox.fleet import Fleet
from sandbox.servers import EmbeddedMongo
from worker.keys import GENRE_IDS, PAGE_SIZE, PageKey
from worker.records import Page
from worker.storage.database import Storage

PAGES, QUICK_PAGES = 2_000, 200
#: The largest acceptable cost, as a part of a page's time without the index: a few ms for 20 new movies.
BOUND = 2.0


def main(arguments: list[str]) -> int:
    """Exit code 0 when the index costs less than the bound."""
    pages = QUICK_PAGES if "--quick" in arguments else PAGES
    with tempfile.TemporaryDirectory() as folder, Fleet({}, Path(folder)) as fleet:
        server = fleet.serve(EmbeddedMongo())
        client: pymongo.MongoClient[dict[str, Any]]
        with pymongo.MongoClient(server.url, tz_aware=True) as client:
            plain, indexed = Storage(client["plain"]), Storage(client["indexed"])
            for storage in (plain, indexed):
                storage.pages.create_indexes()
            indexed.movies.create_read_index()
            times: dict[Storage, list[float]] = {plain: [], indexed: []}
            for number, page in enumerate(made_up_pages(pages)):
                for storage in (plain, indexed) if number % 2 else (indexed, plain):
                    started = time.perf_counter()
                    storage.pages.save(PageKey(18, "1999", number % 500 + 1), page)
                    times[storage].append(time.perf_counter() - started)
    without_ms, with_ms = (1000 * statistics.median(times[storage]) for storage in (plain, indexed))
    cost = with_ms / without_ms - 1
    figures = {
        "pages": pages,
        "without_ms": round(without_ms, 2),
        "with_ms": round(with_ms, 2),
        "cost": round(cost, 3),
    }
    print(json.dumps(figures) if "--json" in arguments else ", ".join(f"{k} {v}" for k, v in figures.items()))
    return int(cost > BOUND)


def made_up_pages(number: int) -> Iterator[Page]:
    """Pages with movies that are on no other."""
    chance, at = Random(1), datetime.now(UTC)  # noqa: S311 -- made-up movies, no secret
    for first in range(1, number * PAGE_SIZE, PAGE_SIZE):
        movies = [
            {
                "id": id_,
                "title": f"Movie {id_}",
                "genre_ids": chance.sample(GENRE_IDS, chance.randint(1, 4)),
                "release_date": f"{chance.randint(1950, 2025)}-{chance.randint(1, 12):02}-01",
                "overview": "x" * 300,
            }
            for id_ in range(first, first + PAGE_SIZE)
        ]
        body = json.dumps(movies).encode()
        yield Page(1, movies, number, number * PAGE_SIZE, at, sha256(body).hexdigest(), body)
