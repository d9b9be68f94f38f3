"""Messages whose worker or pool process is killed are delivered again. No beat runs here."""

import os
import signal
from collections.abc import Iterator

import pytest
import redis

from sandbox.servers import EmulatorProcess
from tests.chaos.harness import children
from tests.support.stage import Stage, wait_for

PAGE = (18, "2020", 1)
PAGE_ID = "18:2020:1"
#: Seconds that the first request for a page takes.
LONG_S = 4
UNACKED, UNACKED_INDEX = "{reelhaul}:unacked", "{reelhaul}:unacked_index"


@pytest.fixture
def broker(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def slow(stage: Stage) -> EmulatorProcess:
    """TMDB that is slow for the first request only."""
    stage.environment["REELHAUL_TIMEOUT_S"] = "12"
    return stage.emulator("--movies", "400", "--fault", f"latency={LONG_S}:count=1:match=discover")


def is_requested(tmdb: EmulatorProcess) -> bool:
    return bool(tmdb.stats()["arrivals"])


def test_message_is_acknowledged_when_its_page_is_stored(
    stage: Stage, broker: redis.Redis, slow: EmulatorProcess
) -> None:
    stage.send(pages=[PAGE])
    worker = stage.worker("--concurrency", "1")
    wait_for(lambda: is_requested(slow), watching=[worker])
    stored = False
    while not stored:  # longer than acknowledgements are held back
        unacknowledged = broker.hlen(UNACKED)
        stored = PAGE_ID in stage.stored_pages()
        assert unacknowledged == 1 or stored
    wait_for(lambda: broker.hlen(UNACKED) == 0, watching=[worker])


def test_message_of_a_killed_pool_process_is_delivered_again(stage: Stage, slow: EmulatorProcess) -> None:
    """At once, not after the visibility timeout."""
    stage.send(pages=[PAGE])
    worker = stage.worker("--pool", "prefork", "--concurrency", "1")
    wait_for(lambda: is_requested(slow), watching=[worker])
    os.kill(children(worker.pid)[0], signal.SIGKILL)
    wait_for(lambda: PAGE_ID in stage.stored_pages(), watching=[worker])
    assert stage.database["failures"].count_documents({}) == 0


def test_message_of_a_killed_worker_is_delivered_again(
    stage: Stage, broker: redis.Redis, slow: EmulatorProcess
) -> None:
    """By the visibility timeout; the test moves the message's time back by 95 s instead of waiting."""
    stage.send(pages=[PAGE])
    first = stage.worker()
    wait_for(lambda: is_requested(slow), watching=[first])
    first.send(signal.SIGKILL)
    first.kill()
    stage.children.remove(first)
    [(tag, _)] = broker.zscan_iter(UNACKED_INDEX)
    broker.zincrby(UNACKED_INDEX, -95, tag)
    second = stage.worker()
    wait_for(lambda: PAGE_ID in stage.stored_pages(), watching=[second], patience_s=25)
