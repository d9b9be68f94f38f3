"""Times come from Redis' clock, whatever the worker's own shows."""

import time
from datetime import UTC, datetime, timedelta

import pytest
import redis

from tests.support.redis_faults import LeapingRedis, needs_faketime
from worker import clients, settings
from worker.limiter.client import Limiter
from worker.limiter.rate import Rate

AHEAD = timedelta(hours=1)

pytestmark = needs_faketime


def is_ahead(moment: datetime) -> bool:
    return abs(moment - datetime.now(UTC) - AHEAD) < timedelta(minutes=1)


def test_a_token_bears_the_time_of_redis(leaping_redis: LeapingRedis) -> None:
    leaping_redis.leap_to(AHEAD.total_seconds())
    client = redis.Redis.from_url(leaping_redis.url)  # kept for the limiter's listening thread
    token = Limiter(client, Rate(100, 1), 5).acquire(time.monotonic() + 20)
    assert is_ahead(token.at)


def test_fleet_now_is_the_time_of_redis(leaping_redis: LeapingRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    leaping_redis.leap_to(AHEAD.total_seconds())
    monkeypatch.setenv("REDIS_URL", leaping_redis.url)
    settings.settings.cache_clear()
    clients.clear_cached_clients()
    try:
        assert is_ahead(clients.fleet_now())
    finally:
        settings.settings.cache_clear()
        clients.clear_cached_clients()
