"""The sweep: what it enqueues again, and when it enqueues nothing."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import redis

from tests.support.stage import Stage

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
SWEEP = "from producer.schedule.entries import sweep; print('swept', sweep())"
YEARS = ("--genres", "Drama", "--years", "2018..2020")


@pytest.fixture
def broker(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def requested(stage: Stage) -> Stage:
    """A backfill of three cells whose messages wait, for no worker runs."""
    stage.emulator("--movies", "100")
    begun = stage.reelhaul("backfill", *YEARS, "--detach")
    assert begun.returncode == 0, begun.stderr
    return stage


def sweep(stage: Stage) -> int:
    """Run a sweep; returns how many messages it sent."""
    child = stage.start(sys.executable, "-c", SWEEP)
    assert child.wait(30) == 0, child.log_tail()
    return int(child.log_text().rpartition("swept ")[2])


def test_pages_in_a_lost_queue_are_enqueued_again(requested: Stage, broker: redis.Redis) -> None:
    assert broker.llen("{reelhaul}:cells") == 3
    broker.flushdb()
    assert sweep(requested) == 3
    assert broker.llen("{reelhaul}:cells") == 3


def test_nothing_is_enqueued_while_more_than_a_hundred_messages_wait(
    requested: Stage, broker: redis.Redis
) -> None:
    broker.lpush("{reelhaul}:cells", *["{}"] * 100)
    assert sweep(requested) == 0


def test_movies_whose_details_were_asked_for_are_enqueued_again(
    requested: Stage, broker: redis.Redis
) -> None:
    known = {
        "title": "stored",
        "_meta": {"first_seen": AT, "fetched_at": AT, "page": "18:2018:1", "sha256": ""},
    }
    requested.database["movies"].insert_many([{"_id": id_, "id": id_, **known} for id_ in (603, 604)])
    begun = requested.reelhaul("details", "--detach")
    assert begun.returncode == 0, begun.stderr
    broker.flushdb()
    assert sweep(requested) == 3 + 2
    assert broker.llen("{reelhaul}:movies") == 2


@pytest.mark.parametrize(("full", "sent"), [("movies", 3), ("pages", 2)])
def test_movies_and_pages_do_not_wait_for_each_other(
    requested: Stage, broker: redis.Redis, full: str, sent: int
) -> None:
    test_movies_whose_details_were_asked_for_are_enqueued_again(requested, broker)
    broker.flushdb()
    broker.lpush(f"{{reelhaul}}:{full}", *["{}"] * 101)
    assert sweep(requested) == sent
