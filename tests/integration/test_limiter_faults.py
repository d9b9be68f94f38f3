"""The limit holds, and the fleet goes on, with other fleets, slow replies, leaping clocks and no INFO."""

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
from tests.support.stage import PATIENCE_S, wait_for
from worker.errors import NoToken, ReelhaulError
from worker.limiter.client import KEY, LATE_S, Limiter
from worker.limiter.rate import Rate

#: Allowed between a token and the request's arrival (docs/limiter.md).
ALLOWED_S = 0.1

#: How long Redis' replies are delayed.
DELAY_S = 0.8

MakeLimiter = Callable[..., Limiter]


@pytest.fixture
def limiter_at() -> Iterator[MakeLimiter]:
    """Makes limiters, each with its own client like a process; all waits end with the test."""
    made: list[Limiter] = []

    def make(url: str, rate: str = "35/s", capacity: int = 5) -> Limiter:
        made.append(Limiter(redis.Redis.from_url(url), Rate.parse(rate), capacity))
        return made[-1]

    yield make
    for limiter in made:
        limiter.interrupt()


class Load:
    """Threads that take one token after another; `times` are when they would have sent a request."""

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
        """By how many tokens the worst window exceeds the limit."""
        return worst_excess(sorted(self.times), 35, 5)


def neighbour(url: str) -> str:
    """The next logical database of the same server."""
    parts = urlsplit(url)
    return parts._replace(path=f"/{int(parts.path[1:]) % 15 + 1}").geturl()


def generation_of(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.hget(KEY, "gen") or 0)


def test_fleets_in_two_databases_of_one_redis_do_not_affect_each_other(
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


def test_delayed_replies_let_no_burst_through(limiter_at: MakeLimiter, delaying_proxy: DelayingProxy) -> None:
    """Tokens that fell due while their replies were delayed must not be used beside those due now."""
    # A load just below the limit: with a backlog, tokens would fall due after their late replies.
    with Load([limiter_at(delaying_proxy.url) for _ in range(2)], 48, pause_s=3.0) as load:
        load.until(100)
        for _ in range(3):
            delaying_proxy.delay_s = DELAY_S
            time.sleep(DELAY_S)
            delaying_proxy.delay_s = 0.0
            time.sleep(DELAY_S)
            load.until(len(load.times) + 20)
    assert delaying_proxy.held >= 20
    assert load.excess() <= ALLOWED_S * 35


def test_a_slow_redis_grants_no_token_and_wastes_none(
    limiter_at: MakeLimiter, redis_url: str, delaying_proxy: DelayingProxy
) -> None:
    delaying_proxy.delay_s = 3 * LATE_S
    with pytest.raises(NoToken, match="Redis takes"):
        limiter_at(delaying_proxy.url).acquire(time.monotonic() + 1)
    assert limiter_at(redis_url).state().granted == 0


@needs_faketime
def test_redis_clock_leaps_forward(limiter_at: MakeLimiter, leaping_redis: LeapingRedis) -> None:
    """Tokens reserved by the old clock must not be used beside those reserved by the new one."""
    with Load([limiter_at(leaping_redis.url) for _ in range(2)], 32) as load:
        load.until(40)
        leaping_redis.leap_to(3.0)
        load.until(len(load.times) + 120)
    # The leap looks like idle time, which fills the bucket.
    assert load.excess() <= 5 + ALLOWED_S * 35


@needs_faketime
def test_redis_clock_leaps_back(limiter_at: MakeLimiter, leaping_redis: LeapingRedis) -> None:
    with Load([limiter_at(leaping_redis.url) for _ in range(2)], 32) as load:
        load.until(40)
        leaping_redis.leap_to(-3600.0)
        load.until(len(load.times) + 120)
    assert load.excess() <= ALLOWED_S * 35


def test_callers_without_info_do_not_disturb_the_others(limiter_at: MakeLimiter, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as admin:
        admin.acl_setuser(
            "no-info", enabled=True, nopass=True, keys="*", channels="*", commands=["+@all", "-info"]
        )
        try:
            no_info = redis_url.replace("redis://", "redis://no-info:any@")
            with Load([limiter_at(redis_url, "100/s"), limiter_at(no_info, "100/s")], 4) as load:
                load.until(10)
                generation = generation_of(redis_url)
                load.until(60)
                assert generation_of(redis_url) == generation
        finally:
            admin.acl_deluser("no-info")


@needs_faketime
def test_a_claim_from_before_the_clock_leapt_back_is_void(
    limiter_at: MakeLimiter, leaping_redis: LeapingRedis
) -> None:
    """Keys expire by the same clock: the claim would last as long as the leap."""
    leaping_redis.leap_to(86_400.0)
    limiter_at(leaping_redis.url).acquire(time.monotonic() + PATIENCE_S, "18:1999:1")
    leaping_redis.leap_to(0.0)
    # This raises Claimed while the claim lasts.
    limiter_at(leaping_redis.url).acquire(time.monotonic() + PATIENCE_S, "18:1999:1")
