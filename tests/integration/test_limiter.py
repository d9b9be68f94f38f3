"""The limiter as one process uses it: deadlines, claims, the channel, interrupts."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from sandbox.servers import EmbeddedRedis
from tests.support.stage import PATIENCE_S, wait_for
from worker.errors import Claimed, NoToken, Stopping
from worker.limiter.client import Limiter, Token
from worker.limiter.rate import Rate

MakeLimiter = Callable[..., Limiter]


@pytest.fixture
def limiter_with(redis_url: str) -> Iterator[MakeLimiter]:
    """Makes limiters, each with its own client like a process; all waits end with the test."""
    made: list[Limiter] = []

    def make(rate: str = "100/s", capacity: int = 5) -> Limiter:
        made.append(Limiter(redis.Redis.from_url(redis_url), Rate.parse(rate), capacity))
        return made[-1]

    yield make
    for limiter in made:
        limiter.interrupt()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def acquire(limiter: Limiter, claim: str | None = None) -> Token:
    return limiter.acquire(time.monotonic() + PATIENCE_S, claim)


def test_a_token_is_not_used_before_its_time(limiter_with: MakeLimiter, threads: ThreadPoolExecutor) -> None:
    limiter = limiter_with("50/s")

    def late_us(_: int) -> int:
        token = acquire(limiter)
        return limiter.now_us() - token.at_us

    # The two clocks may round differently.
    assert min(threads.map(late_us, range(40))) >= -1_000


def test_acquire_fails_when_no_token_comes_in_time(limiter_with: MakeLimiter) -> None:
    limiter = limiter_with("1/hour")
    with pytest.raises(NoToken, match="rate"):
        limiter.acquire(time.monotonic() + 0.2)
    assert limiter.state().granted == 0


def test_only_one_of_two_processes_gets_the_same_page(limiter_with: MakeLimiter) -> None:
    first, second = limiter_with(), limiter_with()
    assert acquire(first, "18:1999:1").at_us
    with pytest.raises(Claimed):
        acquire(second, "18:1999:1")
    assert acquire(second, "18:1999:2").at_us
    assert acquire(first, "18:1999:1").at_us  # one's own claim does not block


def test_a_new_rate_wakes_waiting_threads(limiter_with: MakeLimiter, threads: ThreadPoolExecutor) -> None:
    limiter, other = limiter_with("1/hour"), limiter_with("1/hour")
    limiter._start_listener()
    wait_for(lambda: limiter.subscribed)  # unsubscribed threads ask again every second
    waiting = [threads.submit(acquire, limiter) for _ in range(4)]
    wait_for(lambda: len(limiter._condition._waiters) == 4)  # type: ignore[attr-defined]
    other.set_rate(Rate(100, 1))
    set_us = other.now_us()
    assert max(future.result(PATIENCE_S).at_us for future in waiting) <= set_us + 1_000_000


def test_a_pause_wakes_waiting_threads(limiter_with: MakeLimiter, threads: ThreadPoolExecutor) -> None:
    limiter, other = limiter_with("2/s"), limiter_with("2/s")
    waiting = [threads.submit(acquire, limiter) for _ in range(4)]
    wait_for(lambda: other.state().granted >= 4 and limiter.subscribed)
    other.pause(1.5)
    paused_us = other.now_us()
    tokens = [future.result(PATIENCE_S) for future in waiting]
    # Each went before the pause, or waited until it was over.
    assert all(token.at_us <= paused_us or token.at_us >= paused_us + 1_400_000 for token in tokens)
    assert any(token.at_us > paused_us for token in tokens)


@pytest.mark.parametrize("closed", ["waiting", "paused", "stopped"])
def test_an_interrupt_ends_every_wait(
    limiter_with: MakeLimiter, threads: ThreadPoolExecutor, closed: str
) -> None:
    limiter = limiter_with("1/10s")
    if closed == "paused":
        limiter.pause()
    elif closed == "stopped":
        limiter.stop("the key was rejected")
    waiting = [threads.submit(acquire, limiter) for _ in range(8)]
    wait_for(lambda: limiter.subscribed)
    limiter.interrupt()
    assert {type(future.exception(PATIENCE_S)) for future in waiting} == {Stopping}
    with pytest.raises(Stopping):
        limiter.sleep(60)


def test_only_the_key_check_passes_a_stopped_limiter_and_opens_it(limiter_with: MakeLimiter) -> None:
    limiter = limiter_with()
    limiter.stop("the key was rejected")
    with pytest.raises(NoToken, match="the key was rejected"):
        limiter.acquire(time.monotonic())
    token = limiter.acquire_for_key_check(time.monotonic() + PATIENCE_S)
    limiter.report_success(token)
    assert limiter.state().closed_reason == ""
    assert acquire(limiter).at_us > token.at_us


def test_a_dead_channel_is_noticed(tmp_path: Path) -> None:
    """The other end of the connection vanished without closing it: pauses would be missed."""
    with EmbeddedRedis(folder=tmp_path / "redis") as server:
        limiter = Limiter(redis.Redis.from_url(server.url), Rate(100, 1), 5)
        acquire(limiter)
        wait_for(lambda: limiter.subscribed)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            wait_for(lambda: not limiter.subscribed)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        wait_for(lambda: limiter.subscribed)
        assert acquire(limiter).at_us


def test_without_the_channel_a_voided_token_is_not_used(limiter_with: MakeLimiter) -> None:
    """The thread checks the generation before it sends."""
    limiter, other = limiter_with("2/s"), limiter_with("2/s")
    limiter._start_listener = lambda: None  # type: ignore[method-assign]
    tokens: list[Token] = []
    thread = threading.Thread(target=lambda: tokens.append(acquire(limiter)))
    thread.start()
    wait_for(lambda: other.state().granted == 1)
    other.pause(1)
    paused_us = other.now_us()
    thread.join(PATIENCE_S)
    assert tokens[0].at_us >= paused_us + 900_000
