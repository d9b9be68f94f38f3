"""The work that a stored page costs, counted and not timed, so that it does not grow unnoticed.

A worker fetches cells of one genre from the emulated TMDB into empty collections, mostly 20 new movies a
page. Redis counts its own commands, those in the limiter's script too; a proxy counts what MongoDB is asked.
What an idle worker does in the same time (heartbeats, stats) is subtracted, so that slow machines pass.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple
from uuid import uuid4

import pymongo
import pytest
import redis

from sandbox.servers import EmbeddedMongo, EmbeddedRedis, EmulatorProcess
from tests.support.comparison import catalogue, expected_cells, expected_pages
from tests.support.counting_proxy import CountingProxy
from tests.support.stage import Stage, wait_for

DRAMA = 18
#: The id of the request that the pages belong to: workers know whether it was cancelled.
REQUEST = "0badcafe"
WARM_UP, YEARS = range(2000, 2001), range(2001, 2026)
#: Seconds over which an idle worker is counted.
IDLE_S = 3.0
#: How far above the pinned number a count may be: fewer pages share a batch on a busy machine.
MARGIN = 1.08
QUEUES = "worker/queues.py, worker/patches (kombu_redis.py, take.lua), worker/limiter/token_bucket.lua"
STORAGE = "worker/kinds.py, worker/storage/pages.py, worker/storage/merge.py"
#: What a page costs, the largest of four runs on 2026-11-24 as this test prints them (pytest -s), and where
#: to look when it costs more. Lower what a change makes cheaper; raise nothing without a reason.
PINNED: dict[str, tuple[float, str]] = {
    "Redis commands": (19.0, QUEUES),
    "Redis bytes": (4_300, QUEUES),
    "MongoDB commands": (4.2, STORAGE),
    "MongoDB bytes": (14_300, STORAGE),
    "log lines": (1.0, "what logs at info: worker/tasks.py, worker/retry.py, worker/signals.py"),
}


class Costs(NamedTuple):
    """What a page cost, by the names in PINNED; and which commands these were."""

    each: dict[str, float]
    commands: dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory, mongo_server: EmbeddedMongo) -> Iterator[Costs]:
    """Measured once for all tests."""
    mongo_url = f"{mongo_server.url}/reelhaul_test_{uuid4().hex[:12]}"
    folder = tmp_path_factory.mktemp("work")
    with (
        EmbeddedRedis(appendonly=False) as server,
        CountingProxy(mongo_url) as proxy,
        closing(Stage(folder, server.url, mongo_url)) as stage,
        redis.Redis.from_url(server.url) as client,
        pymongo.MongoClient[dict[str, object]](mongo_url) as mongo,
    ):
        tmdb = stage.emulator("--movies", "20000")
        worker = stage.worker(MONGO_URL=proxy.url)
        haul(stage, tmdb, WARM_UP)  # connections, indexes, labels, the limiter's script
        yield measure(lambda: counts(client, proxy, worker.log_text()), lambda: haul(stage, tmdb, YEARS))
        mongo.drop_database(stage.database.name)


def haul(stage: Stage, tmdb: EmulatorProcess, years: range) -> int:
    """Fetch the genre's cells of these years; return how many pages were stored."""
    pages = len(expected_pages(expected_cells(catalogue(tmdb), [DRAMA], years)))
    wanted = stage.database["pages"].count_documents({}) + pages
    stage.database["requests"].replace_one({"_id": REQUEST}, {}, upsert=True)
    stage.send(REQUEST, cells=[(DRAMA, str(year), 1) for year in years])
    wait_for(lambda: stage.database["pages"].count_documents({}) == wanted, watching=stage.children)
    return pages


def counts(client: redis.Redis, proxy: CountingProxy, log: str) -> Counter[str]:
    """Everything so far: what is in PINNED, and commands as `Redis hset` and `MongoDB find`."""
    stats, commands = client.info("stats"), client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): int(figures["calls"]) for name, figures in commands.items()}
    found = Counter({f"Redis {name}": number for name, number in calls.items()})
    found.update({f"MongoDB {name}": number for name, number in proxy.commands.items()})
    found["Redis commands"] = sum(calls.values())
    found["Redis bytes"] = stats["total_net_input_bytes"] + stats["total_net_output_bytes"]
    found["MongoDB commands"], found["MongoDB bytes"] = proxy.commands.total(), proxy.bytes
    found["log lines"] = log.count("\n")
    return found


def measure(count: Callable[[], Counter[str]], fetch_pages: Callable[[], int]) -> Costs:
    """What each page costs, less what an idle worker does in the same time."""
    idle_from, before = time.monotonic(), count()
    time.sleep(IDLE_S)  # measured, not waited for
    begun, between = time.monotonic(), count()
    pages = fetch_pages()
    ended, after = time.monotonic(), count()
    share = (ended - begun) / (begun - idle_from)
    each = {
        name: (after[name] - between[name] - share * (between[name] - before[name])) / pages for name in after
    }
    print(f"\n{pages} pages in {ended - begun:.1f} s:", {name: round(each[name], 2) for name in PINNED})  # noqa: T201 -- for PINNED
    commands = {
        server: {
            name.removeprefix(f"{server} "): round(number, 2)
            for name, number in sorted(each.items(), key=lambda item: -item[1])
            if name.startswith(f"{server} ") and name not in PINNED and number >= 0.05
        }
        for server in ("Redis", "MongoDB")
    }
    return Costs(each, commands)


@pytest.mark.parametrize("name", list(PINNED))
def test_a_page_costs_no_more_than_it_did(costs: Costs, name: str) -> None:
    pinned, where = PINNED[name]
    assert costs.each[name] <= MARGIN * pinned, (
        f"{name} a page grew: {costs.each[name]:.2f}, pinned {pinned:g}; see {where}; "
        f"commands a page: {costs.commands.get(name.partition(' ')[0], {})}"
    )


def test_the_counts_are_of_a_page(costs: Costs) -> None:
    """A count that stays at nothing would never grow."""
    assert 1 < costs.commands["Redis"]["evalsha"] <= 2  # one token, and messages taken, several at once
    assert costs.commands["MongoDB"]["insert"] >= 1
    assert all(costs.each[name] > 0.5 * pinned for name, (pinned, _) in PINNED.items()), costs.each
