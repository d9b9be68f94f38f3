"""Time and peak memory of `reelhaul export` of a million movies from the embedded MongoDB.

Most of the time is the server's, which sorts before its first answer.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pymongo

from sandbox.fleet import Fleet
from sandbox.servers import EmbeddedMongo, EmbeddedRedis

MOVIES, QUICK_MOVIES = 1_000_000, 20_000
FILES = ("movies.parquet", "movies.csv.gz", "movies.jsonl")
BOUND_MB = 400
EXPORT = """
import resource, sys
from producer.cli.main import main
sys.argv = ["reelhaul", "export", "--quiet", sys.argv[1]]
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
"""


def main(arguments: list[str]) -> int:
    """Exit code 0 when no export takes more memory than the bound."""
    number = QUICK_MOVIES if "--quick" in arguments else MOVIES
    figures: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder, Fleet(os.environ, Path(folder)) as fleet:
        fleet.serve(EmbeddedRedis(appendonly=False))
        server = fleet.serve(EmbeddedMongo())
        client: pymongo.MongoClient[dict[str, Any]]
        with pymongo.MongoClient(server.url) as client:
            movies = made_up_movies(number)
            while batch := list(islice(movies, 5_000)):
                client["reelhaul"]["movies"].insert_many(batch, ordered=False)
        for name in FILES:
            started = time.monotonic()
            peak_mb = export(Path(folder) / name, fleet.environment)
            seconds = round(time.monotonic() - started, 1)
            figures.append({"file": name, "movies": number, "seconds": seconds, "peak_mb": peak_mb})
    for row in figures:
        print(json.dumps(row) if "--json" in arguments else ", ".join(f"{k} {v}" for k, v in row.items()))
    return int(any(int(str(row["peak_mb"])) > BOUND_MB for row in figures))


def export(target: Path, environment: dict[str, str]) -> int:
    """Export to the file; returns the command's peak memory in megabytes."""
    ran = subprocess.run(
        [sys.executable, "-c", EXPORT, str(target)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    return int(ran.stderr.split()[-1])


def made_up_movies(number: int) -> Iterator[dict[str, Any]]:
    """Stored movies of about 700 bytes."""
    at = datetime.now(UTC)
    for id_ in range(1, number + 1):
        yield {
            "_id": id_,
            "id": id_,
            "title": f"Movie {id_}",
            "original_title": f"Movie {id_}",
            "overview": f"{id_ * 7919:x} " * 40,
            "genre_ids": [18, 28, 35][: id_ % 4],
            "release_date": f"{1950 + id_ % 75}-05-{id_ % 28 + 1:02}",
            "popularity": id_ / 7,
            "vote_average": id_ % 100 / 10 if id_ % 3 else 7,
            "vote_count": id_ % 5_000,
            "adult": False,
            "video": False,
            "_meta": {"first_seen": at, "fetched_at": at, "page": "18:1999:3", "sha256": "0" * 64},
        }
