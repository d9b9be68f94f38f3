"""The order of queues: a refresh overtakes everything, open cells precede new ones, movies get a share."""

import base64
import json
import sys
import uuid
from collections.abc import Iterable
from typing import Any

import pytest
import redis

from producer.plan import plan_cells
from sandbox.emulator.catalog import GENRES
from sandbox.servers import EmulatorProcess
from tests.support.comparison import catalogue, expected_cells, expected_pages, page_id
from tests.support.stage import Stage, wait_for

CONCURRENCY = 4
BACKLOG = 100_000
#: Requests per second: slow enough that requests arrive in the order of the queues.
RATE = 20


def redis_key(queue: str) -> str:
    return f"{{reelhaul}}:{queue}"


def arrivals(server: EmulatorProcess) -> list[str]:
    return [page_id(row[4]) for row in server.log() if row[3] == "discover"]


def fill(client: "redis.Redis", template: bytes, queue: str, keys: Iterable[tuple[int, str, int]]) -> None:
    """Fill the queue with copies of a message, one for each page, as a long backfill does."""
    message: dict[str, Any] = json.loads(template)
    _, *rest = json.loads(base64.b64decode(message["body"]))
    message["properties"]["delivery_info"]["routing_key"] = queue
    with client.pipeline(transaction=False) as pipe:
        for number, key in enumerate(keys, 1):
            body = json.dumps([[*key, 0], *rest])
            message["body"] = base64.b64encode(body.encode()).decode()
            message["properties"]["delivery_tag"] = message["headers"]["id"] = str(uuid.uuid4())
            pipe.lpush(redis_key(queue), json.dumps(message))
            if number % 5_000 == 0:
                pipe.execute()
        pipe.execute()


@pytest.mark.timeout(120)
def test_refresh_overtakes_100_000_pages_within_two_seconds(stage: Stage) -> None:
    stage.environment |= {
        "REELHAUL_RATE": str(RATE),
        "REELHAUL_CAPACITY": "1",
        "REELHAUL_CONCURRENCY": str(CONCURRENCY),
    }
    server = stage.emulator("--movies", "500")
    stage.send(pages=[(18, "2020", 2)])
    with redis.Redis.from_url(stage.redis_url) as client:
        [template] = client.lrange(redis_key("pages"), 0, -1)
        client.delete(redis_key("pages"))
        backlog = ((18, str(1880 + page // 500), 1 + page % 500) for page in range(BACKLOG))
        fill(client, template, "pages", backlog)
        worker = stage.worker()
        wait_for(lambda: len(arrivals(server)) > RATE, watching=[worker])
        before = len(arrivals(server))
        fill(client, template, "refresh", [(35, "2021", 1)])
        wait_for(lambda: "35:2021:1" in arrivals(server), watching=[worker])
    # In requests, not seconds: the machine may be slow.
    assert arrivals(server).index("35:2021:1") - before <= 2 * RATE


def test_open_cells_are_finished_before_others_are_opened(stage: Stage) -> None:
    stage.environment |= {"REELHAUL_RATE": str(RATE), "REELHAUL_CAPACITY": "1", "REELHAUL_CONCURRENCY": "1"}
    server = stage.emulator("--movies", "500")
    pages = [(18, "2020", number) for number in range(2, 8)]
    cells = [(35, "2021", 1), (35, "2022", 1)]
    stage.send(cells=cells, pages=pages, refresh=[(28, "2023", 1)])
    worker = stage.worker()
    wait_for(lambda: len(arrivals(server)) >= 9, watching=[worker])
    assert arrivals(server)[:9] == [
        "28:2023:1",
        *(f"18:2020:{number}" for number in range(2, 8)),
        "35:2021:1",
        "35:2022:1",
    ]


def test_a_refresh_finishes_a_cell_before_it_opens_the_next(stage: Stage) -> None:
    """Or Redis would hold all pages of all cells at once."""
    stage.environment |= {"REELHAUL_CONCURRENCY": "1"}
    server = stage.emulator("--movies", "6000")
    cells = [f"18:{year}" for year in range(2016, 2020)]
    stage.send(refresh=[(18, cell[3:], 1) for cell in cells])
    worker = stage.worker()
    pages = expected_pages(expected_cells(catalogue(server), [18], range(2016, 2020)))
    wait_for(lambda: len(arrivals(server)) == len(pages), watching=[worker])
    fetched = [id_.rpartition(":")[0] for id_ in arrivals(server)]
    assert len(fetched) > 2 * len(cells)
    assert fetched == sorted(fetched)


def kinds(server: EmulatorProcess) -> list[str]:
    """`discover` or `details` for each request, in order."""
    return [row[3] for row in server.log() if row[3] in {"discover", "details"}]


def store_popular(stage: Stage, pages: int) -> None:
    """Store the movies of these pages; no worker runs afterwards."""
    worker = stage.worker()
    assert stage.reelhaul("popular", "--pages", str(pages), "-q").returncode == 0
    worker.stop()


def test_backfill_ends_long_before_the_movies_requested_before_it(stage: Stage) -> None:
    server = stage.emulator("--movies", "2100")
    store_popular(stage, 100)
    assert ": 2,000 messages sent" in stage.reelhaul("details", "--detach").stdout
    assert stage.reelhaul("backfill", "--years", "2018..2020", "--detach").returncode == 0
    worker = stage.worker()
    wait_for(lambda: stage.progress()["missing"] == 0, watching=[worker])
    requested = kinds(server)
    pages = requested.count("discover")
    assert pages >= 57
    until_then = len(requested) - requested[::-1].index("discover")
    # One in four, and more whenever the page queues are empty for a moment.
    assert requested[:until_then].count("details") <= pages


def test_movies_get_their_share_during_a_backfill(stage: Stage) -> None:
    server = stage.emulator("--movies", "500")
    store_popular(stage, 5)
    assert ": 100 messages sent" in stage.reelhaul("details", "--detach").stdout
    stage.send(cells=[(*cell, 1) for cell in plan_cells(GENRES, range(1900, 2000))])
    worker = stage.worker()
    wait_for(lambda: stage.database["details"].count_documents({}) == 100, watching=[worker])
    requested = kinds(server)
    last = len(requested) - requested[::-1].index("details")
    assert 3 * 100 - CONCURRENCY <= last <= 5 * 100
    with redis.Redis.from_url(stage.redis_url) as client:
        assert client.llen(redis_key("cells"))


def test_lost_pages_come_back_while_movies_wait(stage: Stage) -> None:
    stage.emulator("--movies", "200")
    store_popular(stage, 8)
    assert ": 160 messages sent" in stage.reelhaul("details", "--detach").stdout
    assert stage.reelhaul("backfill", "--years", "2018..2020", "--detach").returncode == 0
    sweeping = [
        stage.worker("-Q", "refresh,refresh_cells"),  # nobody takes pages or movies
        stage.start(sys.executable, "-m", "celery", "-A", "producer.schedule", "beat"),
    ]
    with redis.Redis.from_url(stage.redis_url) as client:
        client.delete(redis_key("cells"))
        wait_for(lambda: client.llen(redis_key("cells")) >= 57, watching=sweeping)
        assert client.llen(redis_key("movies")) == 160


def test_refresh_overtakes_movies(stage: Stage) -> None:
    stage.environment |= {"REELHAUL_RATE": str(RATE), "REELHAUL_CAPACITY": "1", "REELHAUL_CONCURRENCY": "1"}
    server = stage.emulator("--movies", "60")
    store_popular(stage, 2)
    assert ": 40 messages sent" in stage.reelhaul("details", "--detach").stdout
    refreshed = [(28, str(year), 1) for year in range(2000, 2012)]
    stage.send(refresh=refreshed)
    worker = stage.worker()
    wait_for(lambda: len(kinds(server)) > len(refreshed), watching=[worker])
    assert kinds(server)[: len(refreshed)] == ["discover"] * len(refreshed)
