"""Run the comparison: interleaved rounds, medians, three tables, JSON, a picture and the README's table."""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pymongo.errors import PyMongoError

from benchmarks.compare import measure, picture, tables
from benchmarks.compare.catalogue import Catalogue
from benchmarks.compare.machine import machine, today, versions
from benchmarks.compare.runners import ROOT, Contestant, Peer, Reelhaul, missing_modules
from benchmarks.compare.servers import LimitedServer, StaticServer
from sandbox.processes import SandboxError
from sandbox.servers import EmbeddedMongo, EmbeddedRedis

FOLDER = ROOT / "docs" / "benchmarks"
#: What TMDB allows today (about), the burst that the emulator admits, and its response time.
RATE, CAPACITY, LATENCY_MS = 40.0, 9.0, 150.0
#: The quick run starts no further round after this, so that it ends within five minutes.
QUICK_S = 200.0

FULL_SPEED: list[Contestant] = [
    Reelhaul("Reelhaul, 2 workers", "threads", 16, processes=2),
    Reelhaul("Reelhaul, threads", "threads", 16),
    Reelhaul("Reelhaul, prefork", "prefork", 4),
    Reelhaul("Reelhaul, solo", "solo", 1),
    Peer("Scrapy", "scrapy_spider"),
    Peer("scrapy-redis", "scrapy_redis_spider", shares_queue=True),
    Peer("crawlee", "crawlee_crawler", in_memory=True),
    Peer("aiohttp", "aiohttp_loop"),
    Peer("requests, threads", "requests_threads", concurrency=16),
]
ORIGINAL, ORIGINAL_PAGES = Peer("one by one, 0.5 s sleep", "original"), 8
UNDER_LIMIT: list[Contestant] = [
    contestant
    for processes in (1, 2)
    for contestant in (
        Reelhaul("Reelhaul", "threads", 16, processes),
        Peer("Scrapy", "scrapy_spider", processes),
        Peer("scrapy-redis", "scrapy_redis_spider", processes, shares_queue=True),
        Peer("crawlee", "crawlee_crawler", processes, in_memory=True),
        Peer("aiohttp", "aiohttp_loop", processes),
        Peer("requests, threads", "requests_threads", processes, concurrency=16),
    )
]
KILLED: list[Contestant] = [
    Reelhaul("Reelhaul", "threads", 16),
    Peer("Scrapy", "scrapy_spider"),
    Peer("scrapy-redis", "scrapy_redis_spider", shares_queue=True),
    Peer("crawlee", "crawlee_crawler"),
    Peer("aiohttp", "aiohttp_loop"),
    Peer("requests, threads", "requests_threads", concurrency=16),
]


class Part(NamedTuple):
    """One table: who takes part, the pages, and how a run is measured."""

    contestants: list[Contestant]
    catalogue: Catalogue
    measure: Callable[[measure.Stage, Contestant], dict[str, Any]]
    limited: bool


def main(argv: Sequence[str]) -> int:
    """Exit code 0, or 1 when a contestant could not be run."""
    options = _options(argv)
    if options.readme:
        write_readme()
        return 0
    document = compare(options)
    suffix = "-quick" if options.quick and not options.keep else ""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"peers{suffix}.json").write_text(json.dumps(document, indent=1) + "\n")
    picture.draw(document, FOLDER / f"peers{suffix}.png")
    print(json.dumps(document, indent=1) if options.json else tables.as_text(document))
    return int(bool(document["not_run"]))


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """All tables as one document."""
    began_s, load = time.monotonic(), os.getloadavg()[0]
    parts = _parts(options.quick)
    contestants = [contestant for part in parts.values() for contestant in part.contestants]
    absent = missing_modules([*contestants, ORIGINAL])
    not_run = {
        peer.label: absent[peer.module]
        for peer in contestants
        if isinstance(peer, Peer) and peer.module in absent
    }
    runs: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    with _stages(parts) as stages:
        for number in range(options.rounds):
            for name, part in parts.items():
                late = time.monotonic() - began_s > QUICK_S
                if number and options.hurry and (late or name != "full_speed"):
                    continue
                for contestant in _rotated(part.contestants, number):
                    if getattr(contestant, "module", None) not in absent:
                        _report(f"{name}, round {number + 1}: {contestant.label}, {contestant.processes}")
                        key = (name, contestant.label, contestant.processes)
                        runs.setdefault(key, []).extend(_measured(part, stages[name], contestant, not_run))
        original = _original(stages["full_speed"], absent)
    rows = {
        name: [
            tables.medians(c.label, runs[name, c.label, c.processes], processes=c.processes)
            for c in part.contestants
            if runs.get((name, c.label, c.processes))
        ]
        for name, part in parts.items()
    }
    rows["full_speed"] += original
    for row in rows["full_speed"]:
        if row["label"] == "Reelhaul, 2 workers":
            row["in_short"] = "Reelhaul"
    return {
        "made": {
            "date": today(),
            "machine": machine(),
            "python": platform.python_version(),
            "versions": versions(),
            "load": [round(load, 1), round(os.getloadavg()[0], 1)],
            "rounds": min(row["runs"] for row in rows["full_speed"] if "extrapolated" not in row),
            "pages": parts["full_speed"].catalogue.size,
            "quick": options.quick,
            "seconds": round(time.monotonic() - began_s),
        },
        "rate": RATE,
        "capacity": CAPACITY,
        **rows,
        "ratios": tables.ratios(rows["full_speed"]),
        "not_run": not_run,
    }


def write_readme() -> None:
    """Put the kept results into the README."""
    readme = ROOT / "README.md"
    document = json.loads((FOLDER / "peers.json").read_text())
    readme.write_text(tables.with_section(readme.read_text(), document))


def _parts(quick: bool) -> dict[str, Part]:
    def limited(stage: measure.Stage, contestant: Contestant) -> dict[str, Any]:
        return measure.under_limit(stage, contestant, RATE, CAPACITY)

    full, under, killed = ((10, 30), (8, 20), (10, 24)) if quick else ((40, 50), (12, 50), (10, 60))
    return {
        "full_speed": Part(FULL_SPEED, Catalogue(*full), measure.full_speed, limited=False),
        "under_limit": Part(UNDER_LIMIT, Catalogue(*under), limited, limited=True),
        "killed": Part(KILLED, Catalogue(*killed), measure.killed, limited=False),
    }


@contextmanager
def _stages(parts: dict[str, Part]) -> Iterator[dict[str, measure.Stage]]:
    """A stage for each table; all of them share MongoDB and Redis."""
    with tempfile.TemporaryDirectory(prefix="compare-") as name, EmbeddedMongo() as mongo:
        folder = Path(name)
        with EmbeddedRedis(appendonly=False) as redis:
            stages, started = {}, []
            for part_name, part in parts.items():
                movies = part.catalogue.write(folder / f"{part_name}.jsonl")
                pages = folder / f"{part_name}.txt"
                pages.write_text("\n".join(part.catalogue.keys))
                options = ("--catalog", str(movies), "--latency-ms", str(LATENCY_MS))
                limit = ("--rate", str(RATE), "--capacity", str(CAPACITY))
                api = LimitedServer(*options, *limit) if part.limited else StaticServer(movies, pages)
                started.append(api.start())
                stages[part_name] = measure.Stage(api, mongo, redis, part.catalogue)
            try:
                yield stages
            finally:
                for api in started:
                    api.stop()


def _measured(
    part: Part, stage: measure.Stage, contestant: Contestant, not_run: dict[str, str]
) -> list[dict[str, Any]]:
    """The figures of one run; nothing, and the reason in `not_run`, when it failed."""
    try:
        return [part.measure(stage, contestant)]
    except (SandboxError, PyMongoError, OSError) as error:
        not_run[contestant.label] = str(error)
        return []


def _original(stage: measure.Stage, absent: dict[str, str]) -> list[dict[str, Any]]:
    if ORIGINAL.module in absent:
        return []
    _report(f"full_speed: {ORIGINAL.label}")
    return [tables.medians(ORIGINAL.label, [measure.paced(stage, ORIGINAL, ORIGINAL_PAGES)], processes=1)]


def _rotated(contestants: list[Contestant], number: int) -> list[Contestant]:
    """Another one begins in each round."""
    first = 3 * number % len(contestants)
    return contestants[first:] + contestants[:first]


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pages, 2 rounds, under 5 minutes")
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    parser.add_argument(
        "--rounds", type=int, help="of every table; 5, quick: at most 2 of the first, 1 of the others"
    )
    parser.add_argument("--keep", action="store_true", help="keep a quick run's results as a full run's")
    parser.add_argument(
        "--readme", action="store_true", help="only write the README's table from the kept results"
    )
    options = parser.parse_args(argv)
    options.hurry = options.quick and options.rounds is None
    options.rounds = options.rounds or (2 if options.quick else 5)
    return options
