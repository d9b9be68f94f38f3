"""LeapingRedis and DelayingProxy, on which other tests build."""

import time
from collections.abc import Callable

import pytest
import redis

from tests.support.redis_faults import CLOCK_TOLERANCE_S, DelayingProxy, LeapingRedis, needs_faketime


@needs_faketime
def test_the_clock_leaps_in_scripts_too_and_timeouts_are_unaffected(leaping_redis: LeapingRedis) -> None:
    with redis.Redis.from_url(leaping_redis.url) as client:
        for offset_s in (3600.0, -3600.0, 0.7, 0.0):
            leaping_redis.leap_to(offset_s)
            seconds, micros = map(int, client.eval("return redis.call('TIME')", 0))
            assert seconds + micros / 1e6 == pytest.approx(time.time() + offset_s, abs=CLOCK_TOLERANCE_S)
        leaping_redis.leap_to(3600)
        begun = time.monotonic()
        assert client.blpop(["nothing"], timeout=1) is None
        assert 0.9 < time.monotonic() - begun < 30


def seconds_of(call: Callable[[], object]) -> float:
    begun = time.monotonic()
    call()
    return time.monotonic() - begun


def test_replies_are_delayed_and_requests_are_not(delaying_proxy: DelayingProxy, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as direct, redis.Redis.from_url(delaying_proxy.url) as client:
        assert client.set("a", 1)
        delaying_proxy.delay_s = 0.3
        assert seconds_of(lambda: client.set("a", 2)) >= 0.3
        assert direct.get("a") == b"2"
        assert delaying_proxy.held == 1
        delaying_proxy.delay_s = 0
        assert client.get("a") == b"2"
        assert delaying_proxy.held == 1


def test_only_replies_to_one_command_are_delayed(delaying_proxy: DelayingProxy) -> None:
    with redis.Redis.from_url(delaying_proxy.url) as client:
        script = client.register_script("return redis.call('GET', KEYS[1])")
        client.set("a", 1)
        script(keys=["a"])
        delaying_proxy.delay_s, delaying_proxy.only = 0.3, "EVALSHA"
        client.get("a")
        assert delaying_proxy.held == 0
        assert seconds_of(lambda: script(keys=["a"])) >= 0.3
        assert delaying_proxy.held == 1
        client.get("a")
        assert delaying_proxy.held == 1
