"""How cost grows: `python -m benchmarks growth [--quick | --full | --report] [--json]`.

Backfills from benchmarks.endless into an embedded MongoDB that holds movies already, with 1, 2 and 4 workers;
and the time of `status` and of a backfill with nothing to do. The longest backfill is cut off unless --full.
Bounds are for an idle machine with two cores.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from datetime import UTC, datetime
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple

import pymongo
import redis

from benchmarks.endless import GENRES, EndlessTmdb, movie
from benchmarks.ids import resident_mb
from benchmarks.runs import Haul, Resume
from sandbox.fleet import REELHAUL, Fleet
from sandbox.servers import EmbeddedMongo, EmbeddedRedis
from worker.keys import Cell

#: The share of a run after which a worker's memory counts: its clients and pools are built by then.
SETTLED = 0.25
LAST_YEAR = 2025
#: Ids of the movies that are stored before: beyond those that are fetched.
FIRST_STORED_ID = 100_000_000
AT = datetime.now(UTC).replace(microsecond=0)
RESULTS = Path(__file__).with_name("results")


class Case(NamedTuple):
    """One backfill: the workers, the movies stored before, its pages, the seconds it may take."""

    workers: int
    stored: int
    pages: int
    limit_s: float


QUICK = [Case(workers, 1_000, 400, 60) for workers in (1, 2)]
DEFAULT = [
    *(Case(workers, 1_000, 1_000, 120) for workers in (1, 2, 4)),
    Case(2, 100_000, 1_000, 120),
    Case(2, 1_000, 10_000, 180),
    Case(1, 1_000, 20_000, 300),
    Case(2, 1_000, 200_000, 60),
]
FULL = [
    *(
        Case(workers, stored, 1_000, 600)
        for workers, stored in product((1, 2, 4), (1_000, 100_000, 1_000_000))
    ),
    *(Case(workers, 1_000, 10_000, 3_600) for workers in (1, 2, 4)),
    Case(1, 1_000, 20_000, 3_600),
    Case(2, 1_000, 200_000, 36_000),
]


def main(arguments: list[str]) -> int:
    """Exit code 0 when the bounds hold."""
    if "--report" in arguments:
        return report()
    quick, full = "--quick" in arguments, "--full" in arguments
    rows: list[Haul | Resume] = []
    for work in QUICK if quick else FULL if full else DEFAULT:
        rows.append(haul(work))
        _show(rows[-1], arguments)
    for pages in (5_000,) if quick else (1_000, 10_000, 50_000):
        rows.append(resume(pages))
        _show(rows[-1], arguments)
    target = RESULTS / f"growth{'-quick' if quick else ''}.json"
    target.write_text(json.dumps([asdict(row) for row in rows]) + "\n", encoding="utf-8")
    return int(not all(row.kept for row in rows))


def report() -> int:
    """Print the last results as Markdown, and draw them."""
    from benchmarks import plot  # noqa: PLC0415 -- matplotlib is slow to import

    rows = json.loads((RESULTS / "growth.json").read_text(encoding="utf-8"))
    hauls = [Haul(**row) for row in rows if "workers" in row]
    resumes = [Resume(**row) for row in rows if "resume_s" in row]
    for part in (hauls, resumes):
        names = [field.name for field in fields(part[0])]
        print("|", " | ".join(name.replace("_", " ") for name in names), "|")
        print("|" + "---|" * len(names))
        for row in part:
            print("|", " | ".join(f"{value:,}" for value in asdict(row).values()), "|")
        print()
    plot.growth(hauls, resumes, RESULTS / "growth.png")
    return 0


def _show(row: Haul | Resume, arguments: list[str]) -> None:
    figures = asdict(row)
    shown = (
        json.dumps(figures) if "--json" in arguments else ", ".join(f"{k} {v}" for k, v in figures.items())
    )
    print(shown, flush=True)


def haul(case: Case) -> Haul:
    """Run the backfill to its end, or until its time is up."""
    years, per_cell = shape(case.pages)
    with (
        stage(per_cell) as fleet,
        pymongo.MongoClient[dict[str, Any]](fleet.environment["MONGO_URL"]) as client,
    ):
        database, broker = client.get_default_database(), redis.Redis.from_url(fleet.environment["REDIS_URL"])
        insert(database["movies"], stored_movies(case.stored))
        workers = [fleet.worker() for _ in range(case.workers)]
        run(fleet, "backfill", "--years", f"{years[0]}..{years[-1]}", "--detach")
        pages, wanted = database["pages"], len(years) * len(GENRES) * per_cell
        while not (first := pages.estimated_document_count()):
            fleet.check()
            time.sleep(0.1)
        begun, peak, settled = time.monotonic(), 0.0, 0.0
        redis_server, mongo_server, _ = fleet.servers
        groups = [[worker.pid for worker in workers], [mongo_server.pid], [redis_server.pid]]
        cpu_before = [sum(map(cpu_s, group)) for group in groups]
        while (
            stored := pages.estimated_document_count()
        ) < wanted and time.monotonic() - begun < case.limit_s:
            fleet.check()
            peak = max(peak, broker.info("memory")["used_memory"] / 2**20)
            memory = max(resident_mb(worker.pid) for worker in workers)
            done = max(stored / wanted, (time.monotonic() - begun) / case.limit_s)
            settled = settled or (memory if done >= SETTLED else 0.0)
            time.sleep(0.25)
        seconds = time.monotonic() - begun
        number = stored - first
        memory = max(resident_mb(worker.pid) for worker in workers)
        cpu = [sum(map(cpu_s, group)) - before for group, before in zip(groups, cpu_before, strict=True)]
    figures = (seconds, number / seconds, peak, settled or memory, memory, *(1e3 * s / number for s in cpu))
    return Haul(case.workers, case.stored, wanted, stored, *(round(figure, 1) for figure in figures))


def cpu_s(pid: int) -> float:
    """The CPU time that a process has used, in seconds."""
    fields_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields_[11]) + int(fields_[12])) / os.sysconf("SC_CLK_TCK")


def resume(pages: int) -> Resume:
    """Time `status`, and the backfill again, when all its pages are stored."""
    years, per_cell = shape(pages)
    with (
        stage(per_cell) as fleet,
        pymongo.MongoClient[dict[str, Any]](fleet.environment["MONGO_URL"]) as client,
    ):
        backfill = ("backfill", "--years", f"{years[0]}..{years[-1]}")
        run(fleet, *backfill, "--detach")  # requests the names of genres, creates the indexes
        records = page_records(years, per_cell)
        stored = insert(client.get_default_database()["pages"], records)
        [server] = [server for server in fleet.servers if isinstance(server, EndlessTmdb)]
        before = server.requests_served()
        status_s, resume_s = run(fleet, "status", "--json"), run(fleet, *backfill, "--quiet")
        return Resume(stored, round(status_s, 2), round(resume_s, 2), server.requests_served() - before)


def shape(pages: int) -> tuple[range, int]:
    """The years, and the pages of each cell, of a backfill of about this many pages."""
    years = min(131, max(1, pages // 1_500))
    return range(LAST_YEAR - years + 1, LAST_YEAR + 1), max(1, round(pages / years / len(GENRES)))


class stage(Fleet):  # noqa: N801 -- used as a context manager
    """Fresh servers, and a limit that no worker reaches."""

    def __init__(self, per_cell: int) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="reelhaul-growth-")
        folder = Path(self._scratch.name)
        settings = {
            "TMDB_TOKEN": "a-token-of-nobody",
            "REELHAUL_RATE": "1000",
            "REELHAUL_CAPACITY": "100",
            "REELHAUL_CONNECTIONS": "100",
            "REELHAUL_RUN_FOLDER": str(folder / "run"),
        }
        super().__init__({**os.environ, **settings}, folder)
        self.serve(EmbeddedRedis(appendonly=False))
        self.serve(EmbeddedMongo())
        self.serve(EndlessTmdb(per_cell))

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._scratch.cleanup()


def run(fleet: Fleet, *command: str) -> float:
    """Run `reelhaul COMMAND`; its seconds."""
    started = time.monotonic()
    subprocess.run([*REELHAUL, *command], env=fleet.environment, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - started


def insert(collection: Any, documents: Iterator[dict[str, Any]]) -> int:
    """Insert the documents in batches; returns how many."""
    number = 0
    while batch := list(islice(documents, 2_000)):
        collection.insert_many(batch, ordered=False)
        number += len(batch)
    return number


def stored_movies(number: int) -> Iterator[dict[str, Any]]:
    """Movies as workers store them."""
    meta = {"first_seen": AT, "fetched_at": AT, "page": "1:1870:1", "sha256": "0" * 64}
    for id_ in range(FIRST_STORED_ID, FIRST_STORED_ID + number):
        yield {"_id": id_, **movie(id_, 1, 1870), "_meta": meta}


def page_records(years: range, per_cell: int) -> Iterator[dict[str, Any]]:
    """Page records as workers write them."""
    for number, (genre, year, page) in enumerate(product(GENRES, years, range(1, per_cell + 1))):
        yield {
            "_id": Cell(genre, str(year)).page(page).id,
            "genre_id": genre,
            "window": str(year),
            "page": page,
            "total_pages": per_cell,
            "total_results": 20 * per_cell,
            "movie_ids": list(range(20 * number, 20 * number + 20)),
            "fetched_at": AT,
            "sha256": "0" * 64,
        }
