"""What may not break the limit or starve the fleet: neighbours, slow replies, clocks, other settings."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Self
from urllib.parse import urlsplit

import pytest
import redis

from benchmarks.arrivals import worst_excess
from tests.support.redis_faults import DelayingProxy, LeapingRedis, needs_faketime
from tests.support.stage import PATIENCE_S
from tests.support.virtual_gate import SECOND, VirtualGate
from worker.errors import NoToken, ReelhaulError
from worker.limiter.client import KEY, LATE_S, Limiter
from worker.limiter.rate import Rate

#: What the promise allows between a token and the request's arrival (docs/limiter.md).
ALLOWED_S = 0.1

#: How long Redis' replies are held up.
HELD_S = 0.8

MakeLimiter = Callable[..., Limiter]


@pytest.fixture
def limiter_at() -> Iterator[MakeLimiter]:
    """Processes as the limiter sees them; none waits after the test."""
    made: list[Limiter] = []

    def make(url: str, rate: str = "35/s", capacity: int = 5) -> Limiter:
        made.append(Limiter(redis.Redis.from_url(url), Rate.parse(rate), capacity))
        return made[-1]

    yield make
    for limiter in made:
        limiter.interrupt()


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


class Load:
    """Threads that take one token after the other; `times` are when they would have sent a request."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        wait(self._running, PATIENCE_S)
        self._pool.shutdown(wait=False)

    def __init__(self, limiters: list[Limiter], threads: int, pause_s: float = 0.0) -> None:
        self.times: list[float] = []
        self._over = threading.Event()
        self._pause_s = pause_s
        self._pool = ThreadPoolExecutor(threads * len(limiters))
        self._running = [self._pool.submit(self._run, one) for one in limiters for _ in range(threads)]

    def _run(self, limiter: Limiter) -> None:
        while not self._over.is_set():
            try:
                limiter.acquire(time.monotonic() + 1)
            except ReelhaulError:
                continue
            self.times.append(time.monotonic())
            self._over.wait(self._pause_s)

    def until(self, tokens: int) -> None:
        wait_for(lambda: len(self.times) >= tokens)

    def excess(self) -> float:
        """By how many tokens the worst window is too full."""
        return worst_excess(sorted(self.times), 35, 5)


def neighbour(url: str) -> str:
    """The next logical database of the same server."""
    parts = urlsplit(url)
    return parts._replace(path=f"/{int(parts.path[1:]) % 15 + 1}").geturl()


def generation_of(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.hget(KEY, "gen") or 0)


def test_fleets_in_two_databases_of_one_redis_do_not_hear_each_other(
    limiter_at: MakeLimiter, redis_url: str
) -> None:
    ours, theirs = limiter_at(redis_url, "100/s"), limiter_at(neighbour(redis_url), "100/s")
    tokens = [one.acquire(time.monotonic() + PATIENCE_S) for one in (ours, theirs)]
    with Load([ours, theirs], 4) as load:
        load.until(20)
        theirs.report_refusal(tokens[1], 1.0)
        so_far, generation = len(load.times), generation_of(redis_url)
        load.until(so_far + 60)
    assert generation_of(redis_url) == generation


def test_replies_that_are_held_up_let_no_burst_through(
    limiter_at: MakeLimiter, delaying_proxy: DelayingProxy
) -> None:
    """Tokens that were due while their replies were held would go out beside those that are due now."""
    # A little less than the limit allows: with a backlog, tokens would fall due after their late replies.
    with Load([limiter_at(delaying_proxy.url) for _ in range(2)], 48, pause_s=3.0) as load:
        load.until(100)
        for _ in range(3):
            delaying_proxy.delay_s = HELD_S
            time.sleep(HELD_S)
            delaying_proxy.delay_s = 0.0
            time.sleep(HELD_S)
            load.until(len(load.times) + 20)
    assert delaying_proxy.held >= 20
    assert load.excess() <= ALLOWED_S * 35


def test_a_redis_that_is_always_slow_gives_no_token_and_wastes_none(
    limiter_at: MakeLimiter, redis_url: str, delaying_proxy: DelayingProxy
) -> None:
    delaying_proxy.delay_s = 3 * LATE_S
    with pytest.raises(NoToken, match="Redis takes"):
        limiter_at(delaying_proxy.url).acquire(time.monotonic() + 1)
    assert limiter_at(redis_url).state().granted == 0


@needs_faketime
def test_redis_clock_leaps_forward(limiter_at: MakeLimiter, leaping_redis: LeapingRedis) -> None:
    """What was reserved by the old clock is not used beside what is given by the new one."""
    with Load([limiter_at(leaping_redis.url) for _ in range(2)], 32) as load:
        load.until(40)
        leaping_redis.leap_to(3.0)
        load.until(len(load.times) + 120)
    # A rest that there never was has saved up a bucketful.
    assert load.excess() <= 5 + ALLOWED_S * 35


@needs_faketime
def test_redis_clock_leaps_back(limiter_at: MakeLimiter, leaping_redis: LeapingRedis) -> None:
    with Load([limiter_at(leaping_redis.url) for _ in range(2)], 32) as load:
        load.until(40)
        leaping_redis.leap_to(-3600.0)
        load.until(len(load.times) + 120)
    assert load.excess() <= ALLOWED_S * 35


def test_callers_that_may_not_use_info_do_not_unsettle_the_others(
    limiter_at: MakeLimiter, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as admin:
        admin.acl_setuser(
            "blind", enabled=True, nopass=True, keys="*", channels="*", commands=["+@all", "-info"]
        )
        try:
            blind = redis_url.replace("redis://", "redis://blind:any@")
            with Load([limiter_at(redis_url, "100/s"), limiter_at(blind, "100/s")], 4) as load:
                load.until(10)
                generation = generation_of(redis_url)
                load.until(60)
                assert generation_of(redis_url) == generation
        finally:
            admin.acl_deluser("blind")


def test_the_strictest_of_different_configurations_holds_for_the_fleet(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        strict = VirtualGate(client, Rate(35, 1), 5)
        lax = VirtualGate(client, Rate(100, 1), 100)
        gates = (lax, strict)
        for one in gates:
            one.reserve()
        for one in gates:
            one.now += 50 * SECOND  # the strict one asked within the last minute
        waits = [lax.reserve()[1] for _ in range(7)]
        assert max(waits[:5]) <= 1  # a microsecond: a token is due at a fraction of one
        assert waits[5] > 1
        assert waits[6] - waits[5] == pytest.approx(SECOND / 35, abs=2)


def test_a_configuration_that_nobody_has_any_more_is_given_up(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        old, new = VirtualGate(client, Rate(10, 1), 2), VirtualGate(client, Rate(40, 1), 5)
        old.reserve()
        new.now += 30 * SECOND
        new.reserve()
        assert new.state()["requests"] == "10"
        new.now += 40 * SECOND
        new.reserve()
        assert new.state()["requests"] == "40"


def test_after_a_refused_key_one_caller_a_minute_may_check_it(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        gate = VirtualGate(client, Rate(40, 1), 5)
        gate.reserve()
        gate.call("stop", "the key was refused")
        assert gate.reserve()[0] == "closed"
        gate.now += 60 * SECOND
        assert [gate.reserve()[0] for _ in range(3)] == ["key", "closed", "closed"]
        gate.now += 60 * SECOND
        verdict, _, generation = gate.reserve()
        assert verdict == "key"
        gate.call("well", generation)
        assert gate.reserve()[0] == "granted"


def test_a_pause_by_hand_holds_the_check_of_the_key_as_well(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        gate = VirtualGate(client, Rate(40, 1), 5)
        gate.call("stop", "the key was refused")
        gate.call("pause", 0)
        gate.now += 60 * SECOND
        assert gate.reserve()[0] == "closed"
        assert gate.acquire_for_key_check()[0] == "closed"


@needs_faketime
def test_a_claim_from_before_the_clock_leapt_back_is_void(
    limiter_at: MakeLimiter, leaping_redis: LeapingRedis
) -> None:
    """Redis' keys expire by the same clock: it would last as long as the leap."""
    leaping_redis.leap_to(86_400.0)
    limiter_at(leaping_redis.url).acquire(time.monotonic() + PATIENCE_S, "18:1999:1")
    leaping_redis.leap_to(0.0)
    # Raises Claimed while the claim lasts.
    limiter_at(leaping_redis.url).acquire(time.monotonic() + PATIENCE_S, "18:1999:1")
