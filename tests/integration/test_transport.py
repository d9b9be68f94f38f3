"""A worker that loses Redis while it is partly busy lives on; with kombu's own transport it dies."""

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pymongo
import pytest

from sandbox.processes import ChildProcess
from sandbox.servers import EmbeddedMongo, EmbeddedRedis
from tests.support.stage import PATIENCE_S, Stage, wait_for

#: The app as it would be without worker.patches.kombu_redis.
STOCK = """
import worker.patches.kombu_redis
worker.patches.kombu_redis.install = lambda: None
from worker.app import app
"""
#: How often the stock transport is given the chance to die; it did in 11 of 11 trials.
TRIALS = 3


@pytest.fixture
def redis_of_its_own() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def fleet(tmp_path: Path, redis_of_its_own: EmbeddedRedis, mongo_server: EmbeddedMongo) -> Iterator[Stage]:
    mongo_url = f"{mongo_server.url}/reelhaul_test_{uuid4().hex[:12]}"
    with closing(Stage(tmp_path, redis_of_its_own.url, mongo_url)) as stage:
        stage.environment["REELHAUL_CONCURRENCY"] = "4"
        stage.environment["REELHAUL_TIMEOUT_S"] = "8"
        # One slot is busy for long, three are free.
        stage.emulator("--movies", "200", "--fault", "latency=6:match=with_genres=18&")
        yield stage
        with pymongo.MongoClient[dict[str, object]](mongo_url) as client:
            client.drop_database(stage.database.name)


def lose_redis_while_partly_busy(
    fleet: Stage, worker: ChildProcess, server: EmbeddedRedis, year: int = 2020
) -> None:
    """The worker holds one message of slow work, a page of that year, when Redis dies and comes back."""
    [tmdb] = fleet.emulators
    before = tmdb.stats()["arrivals"]
    fleet.send(cells=[(18, f"{year}", 1)])
    wait_for(lambda: bool(tmdb.stats()["arrivals"] > before), watching=[worker])
    server.kill()
    time.sleep(0.5)  # dead for a moment, as a restart is; how long decides nothing
    server.start()


def test_the_worker_lives_and_consumes_again(fleet: Stage, redis_of_its_own: EmbeddedRedis) -> None:
    worker = fleet.worker()
    for year in (2021, 2022):
        lose_redis_while_partly_busy(fleet, worker, redis_of_its_own, year)
        fleet.send(cells=[(35, f"{year}", 1)])
        wait_for(lambda year=year: f"35:{year}:1" in fleet.stored_pages(), watching=[worker])  # type: ignore[misc]
    assert "Unrecoverable error" not in worker.log_text()


@pytest.mark.timeout(150)
def test_with_the_stock_transport_it_dies(fleet: Stage, redis_of_its_own: EmbeddedRedis) -> None:
    """When this fails, kombu has mended it: worker.patches.kombu_redis can go, and this file with it."""
    (fleet.folder / "stock.py").write_text(STOCK)
    fleet.environment["PYTHONPATH"] = str(fleet.folder)
    deaths = []
    for _ in range(TRIALS):
        worker = fleet.worker(module="stock")
        lose_redis_while_partly_busy(fleet, worker, redis_of_its_own)
        deadline = time.monotonic() + PATIENCE_S / TRIALS
        while worker.running and time.monotonic() < deadline:
            time.sleep(0.05)
        if not worker.running:
            deaths.append(worker.log_text())
            break
        worker.kill()
    assert deaths, f"the stock transport survived {TRIALS} times"
    assert "Unrecoverable error" in deaths[0]
    assert "AttributeError" in deaths[0]


def test_both_schemes_mean_the_mended_transport(fleet: Stage) -> None:
    script = (
        "import worker.app\nfrom kombu import Connection\n"
        "for scheme in ('redis', 'rediss'):\n"
        "    print(Connection(f'{scheme}://127.0.0.1:1/0').get_transport_cls().Channel.__module__)"
    )
    asked = fleet.start(sys.executable, "-c", script)
    assert asked.wait(30) == 0
    assert asked.log_text().split() == ["worker.patches.kombu_redis"] * 2
