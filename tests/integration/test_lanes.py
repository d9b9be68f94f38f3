"""Lanes: a refresh overtakes a backfill, however long that is; open cells come before new ones."""

import base64
import json
import uuid
from collections.abc import Iterable
from typing import Any

import pytest
import redis

from sandbox.servers import EmulatorProcess
from tests.stage import Stage, page_id, wait_for

SLOTS = 4
BACKLOG = 100_000
#: Requests a second: slow enough that the order of arrivals is the order of lanes.
RATE = 20


def lane(name: str) -> str:
    return f"{{reelhaul}}:{name}"


def arrivals(server: EmulatorProcess) -> list[str]:
    return [page_id(row[4]) for row in server.log() if row[3] == "discover"]


def fill(client: "redis.Redis", template: bytes, name: str, keys: Iterable[tuple[int, str, int]]) -> None:
    """Copies of one message, each for a page of its own, as a long backfill leaves them in a lane."""
    message: dict[str, Any] = json.loads(template)
    _, *rest = json.loads(base64.b64decode(message["body"]))
    message["properties"]["delivery_info"]["routing_key"] = name
    with client.pipeline(transaction=False) as pipe:
        for number, key in enumerate(keys, 1):
            body = json.dumps([[*key, 0], *rest])
            message["body"] = base64.b64encode(body.encode()).decode()
            message["properties"]["delivery_tag"] = message["headers"]["id"] = str(uuid.uuid4())
            pipe.lpush(lane(name), json.dumps(message))
            if number % 5_000 == 0:
                pipe.execute()
        pipe.execute()


@pytest.mark.timeout(120)
def test_a_refresh_starts_within_two_seconds_of_a_backfill_of_100_000_pages(stage: Stage) -> None:
    stage.environment |= {
        "REELHAUL_RATE": str(RATE),
        "REELHAUL_CAPACITY": "1",
        "REELHAUL_SLOTS": str(SLOTS),
    }
    server = stage.emulator("--movies", "500")
    stage.send(pages=[(18, "2020", 2)])
    with redis.Redis.from_url(stage.redis_url) as client:
        [template] = client.lrange(lane("pages"), 0, -1)
        client.delete(lane("pages"))
        backlog = ((18, str(1880 + page // 500), 1 + page % 500) for page in range(BACKLOG))
        fill(client, template, "pages", backlog)
        worker = stage.worker()
        wait_for(lambda: len(arrivals(server)) > RATE, watching=[worker])
        before = len(arrivals(server))
        fill(client, template, "refresh", [(35, "2021", 1)])
        wait_for(lambda: "35:2021:1" in arrivals(server), watching=[worker])
    # In requests, not seconds: the machine may be slow, the rate is not.
    assert arrivals(server).index("35:2021:1") - before <= 2 * RATE


def test_open_cells_are_drained_before_others_are_opened(stage: Stage) -> None:
    stage.environment |= {"REELHAUL_RATE": str(RATE), "REELHAUL_CAPACITY": "1", "REELHAUL_SLOTS": "1"}
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
