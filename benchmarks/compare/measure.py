"""One run of one contestant: from the first request that arrives to the last page that is stored."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pymongo
from pymongo.database import Database

from benchmarks.compare.catalogue import Catalogue
from benchmarks.compare.process_tree import Usage, tree
from benchmarks.compare.runners import Contestant, Reelhaul, Run, empty_redis
from benchmarks.compare.servers import Api
from sandbox.processes import ChildProcess, SandboxError
from sandbox.servers import EmbeddedMongo, EmbeddedRedis

#: Longest time until the first request, and for one run.
FIRST_S, RUN_S = 20.0, 120.0


@dataclass(frozen=True)
class Stage:
    """The servers of a comparison, which its runs use one after another."""

    api: Api
    mongo: EmbeddedMongo
    redis: EmbeddedRedis
    catalogue: Catalogue

    @contextmanager
    def run(self, rate: float | None = None) -> Iterator[tuple[Run, Database[dict[str, Any]]]]:
        """A run with an empty Redis and a database of its own, which is dropped afterwards."""
        name = f"compare_{uuid4().hex[:10]}"
        empty_redis(self.redis.url)
        self.api.reset()
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(self.mongo.url)
        with client, tempfile.TemporaryDirectory(prefix="compare-", ignore_cleanup_errors=True) as folder:
            url = f"{self.mongo.url}/{name}"
            yield (
                Run(self.api.base_url, url, self.redis.url, self.catalogue, Path(folder), rate),
                client[name],
            )
            client.drop_database(name)


@dataclass(frozen=True)
class Cost:
    """CPU seconds by part, seconds, pages, and megabytes; of the time between first request and last page."""

    seconds: float
    pages: int
    client_s: float
    mongo_s: float
    redis_s: float
    api_s: float
    peak_mb: float

    def figures(self) -> dict[str, float]:
        per_page = 1000 / max(1, self.pages)
        return {
            "pages_per_s": round(self.pages / self.seconds, 1),
            "client_ms": round(self.client_s * per_page, 2),
            "mongo_ms": round(self.mongo_s * per_page, 2),
            "redis_ms": round(self.redis_s * per_page, 2),
            "api_ms": round(self.api_s * per_page, 3),
            "peak_mb": round(self.peak_mb),
            "pages": self.pages,
        }


def full_speed(stage: Stage, contestant: Contestant) -> dict[str, Any]:
    """The figures of a run without a limit, and whether the catalogue is stored as it was sent."""
    with stage.run() as (run, database), started(contestant, run) as processes:
        cost = follow(stage, processes, database)
        return {**cost.figures(), "complete": lost_pages(stage.catalogue, database) == 0}


def paced(stage: Stage, contestant: Contestant, pages: int) -> dict[str, Any]:
    """A contestant whose pace is its own sleep: its first pages only."""
    with stage.run() as (run, database), started(contestant, run) as processes:
        cost = follow(stage, processes, database, pages)
        # n pages need n - 1 pauses.
        whole = replace(cost, seconds=cost.seconds * pages / (pages - 1))
        return {**whole.figures(), "extrapolated": True}


def under_limit(stage: Stage, contestant: Contestant, rate: float, capacity: float) -> dict[str, Any]:
    """Share of the limit used, requests refused, and CPU, under an API that enforces the rate."""
    with stage.run(rate) as (run, database), started(contestant, run) as processes:
        cost = follow(stage, processes, database)
        arrivals = stage.api.arrivals()
        accepted = [at_s for at_s, status, _ in arrivals if status != 429]
        allowed = capacity + rate * (accepted[-1] - accepted[0])
        return {
            **{name: cost.figures()[name] for name in ("pages_per_s", "client_ms", "peak_mb", "pages")},
            "share": round(len(accepted) / allowed, 3),
            "requests": len(arrivals),
            "refused": len(arrivals) - len(accepted),
            "pages_lost": lost_pages(stage.catalogue, database),
        }


def killed(stage: Stage, contestant: Contestant) -> dict[str, Any]:
    """SIGKILL when half of the pages are stored, then the same command again."""
    size = stage.catalogue.size
    with stage.run() as (run, database):
        with started(contestant, run) as processes:
            stored = follow(stage, processes, database, size // 2).pages
            for process in processes:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.kill()
        requested = len({key for _, _, key in stage.api.arrivals()})
        with started(contestant, run) as processes:
            began_s = time.monotonic()
            wait_for_end(stage, processes, database)
            resumed_s = time.monotonic() - began_s
        keys = Counter(key for _, status, key in stage.api.arrivals() if status != 429)
        return {
            "stored_at_kill": stored,
            "requested_at_kill": requested,
            "pages": size,
            "pages_lost": lost_pages(stage.catalogue, database),
            "fetched_twice": keys.total() - len(keys),
            "resumed_s": round(resumed_s, 1),
        }


@contextmanager
def started(contestant: Contestant, run: Run) -> Iterator[list[ChildProcess]]:
    """The processes of a contestant; they have ended afterwards."""
    processes = contestant.start(run)
    commands: list[ChildProcess] = []
    try:
        commands = contestant.request(run)
        yield processes
    finally:
        for process in [*commands, *processes]:
            # Workers have nothing to finish; a peer is about to end, and a command has done its work.
            process.stop(grace_s=0 if isinstance(contestant, Reelhaul) else 5)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def follow(
    stage: Stage, processes: list[ChildProcess], database: Database[dict[str, Any]], pages: int = 0
) -> Cost:
    """Wait for the first request, then until `pages` are stored (0: all) or the processes have ended."""
    wanted = pages or stage.catalogue.size
    deadline = time.monotonic() + FIRST_S
    while not stage.api.count():
        _check(processes, deadline)
        time.sleep(0.005)
    began_s, deadline = time.monotonic(), time.monotonic() + RUN_S
    clients = Usage(tree([process.pid for process in processes]))
    mongo, redis, api = (Usage({server.pid}) for server in (stage.mongo, stage.redis, stage.api))
    while True:
        stored = database["pages"].estimated_document_count()
        now_s = time.monotonic()
        for usage in (clients, mongo, redis, api):
            usage.sample()
        if stored >= wanted or now_s > deadline or not any(process.running for process in processes):
            break
        time.sleep(min(0.25, max(0.01, (wanted - stored) / 600)))
    parts = clients.cpu_s, mongo.cpu_s, redis.cpu_s, api.cpu_s
    return Cost(now_s - began_s, stored, *parts, clients.peak_mb)


def wait_for_end(stage: Stage, processes: list[ChildProcess], database: Database[dict[str, Any]]) -> None:
    """Until every page has its record, or the processes have ended by themselves."""
    deadline = time.monotonic() + RUN_S
    while database["pages"].estimated_document_count() < stage.catalogue.size:
        if time.monotonic() > deadline or not any(process.running for process in processes):
            return
        time.sleep(0.05)


def lost_pages(catalogue: Catalogue, database: Database[dict[str, Any]]) -> int:
    """Pages with a movie that is not stored as the API sent it, or without a record."""
    stored = {movie.pop("_id"): movie for movie in database["movies"].find({}, {"_meta": 0})}
    records = {record["_id"]: record for record in database["pages"].find({}, {"movie_ids": 1})}
    sent = {movie["id"]: movie for movie in catalogue.movies()}
    wrong = {id_ for id_, movie in sent.items() if {"id": id_, **stored.get(id_, {})} != movie}
    complete = [
        key for key in catalogue.keys if key in records and not wrong.intersection(records[key]["movie_ids"])
    ]
    return catalogue.size - len(complete)


def _check(processes: list[ChildProcess], deadline: float) -> None:
    for process in processes:
        if not process.running:
            raise SandboxError(f"{process} has ended:\n{process.log_tail()}")
    if time.monotonic() > deadline:
        raise SandboxError(f"{processes[0]} sent no request:\n{processes[0].log_tail()}")
