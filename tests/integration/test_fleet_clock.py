"""The fleet's one clock is Redis': what is stored bears its time, whatever the worker's own says."""

import time
from datetime import UTC, datetime, timedelta

import pytest
import redis

from tests.support.redis_faults import LeapingRedis, needs_faketime
from worker import clients as bootstrap
from worker import settings
from worker.limiter.client import Limiter
from worker.limiter.rate import Rate

AHEAD = timedelta(hours=1)

pytestmark = needs_faketime


def is_ahead(moment: datetime) -> bool:
    return abs(moment - datetime.now(UTC) - AHEAD) < timedelta(minutes=1)


def test_the_time_of_a_token_is_redis(leaping_redis: LeapingRedis) -> None:
    leaping_redis.leap_to(AHEAD.total_seconds())
    client = redis.Redis.from_url(leaping_redis.url)  # the limiter's thread needs it to the end
    token = Limiter(client, Rate(100, 1), 5).acquire(time.monotonic() + 20)
    assert is_ahead(token.at)


def test_what_is_due_or_given_up_bears_redis_time(
    leaping_redis: LeapingRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaping_redis.leap_to(AHEAD.total_seconds())
    monkeypatch.setenv("REDIS_URL", leaping_redis.url)
    settings.settings.cache_clear()
    bootstrap.clear_cached_clients()
    try:
        assert is_ahead(bootstrap.fleet_now())
    finally:
        settings.settings.cache_clear()
        bootstrap.clear_cached_clients()
