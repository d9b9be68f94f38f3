"""What the sweep makes of a queue that was lost, and of one that was not."""

import sys
from collections.abc import Iterator

import pytest
import redis

from tests.support.stage import Stage

SWEEP = "from producer.schedule.tasks import sweep; print('swept', sweep())"
YEARS = ("--genres", "Drama", "--years", "2018..2020")


@pytest.fixture
def broker(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def asked_for(stage: Stage) -> Stage:
    """A backfill of three cells whose messages wait: no worker runs."""
    stage.emulator("--movies", "100")
    asked = stage.reelhaul("backfill", *YEARS, "--detach")
    assert asked.returncode == 0, asked.stderr
    return stage


def sweep(stage: Stage) -> int:
    """How many messages a sweep sends."""
    child = stage.start(sys.executable, "-c", SWEEP)
    assert child.wait(30) == 0, child.log_tail()
    return int(child.log_text().rpartition("swept ")[2])


def test_what_a_lost_queue_held_is_sent_again(asked_for: Stage, broker: redis.Redis) -> None:
    assert broker.llen("{reelhaul}:cells") == 3
    broker.flushdb()
    assert sweep(asked_for) == 3
    assert broker.llen("{reelhaul}:cells") == 3


def test_while_a_hundred_messages_wait_nothing_is_sent_twice(asked_for: Stage, broker: redis.Redis) -> None:
    broker.lpush("{reelhaul}:cells", *["{}"] * 100)
    assert sweep(asked_for) == 0


def test_movies_that_are_wanted_are_sent_again(asked_for: Stage, broker: redis.Redis) -> None:
    wanted: list[dict[str, object]] = [
        {"_id": id_, "since": None, "details": False, "append": []} for id_ in (603, 604)
    ]
    asked_for.database["movie_requests"].insert_many(wanted)
    broker.flushdb()
    assert sweep(asked_for) == 3 + len(wanted)
    assert broker.llen("{reelhaul}:movies") == len(wanted)
