"""One process at the gate: what its waiting slots hear, and what they are told."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from sandbox.servers import EmbeddedRedis
from tests.support.stage import PATIENCE_S
from worker.errors import Claimed, NoToken, Stopping
from worker.limiter.client import Limiter, Token
from worker.limiter.rate import Rate

MakeLimiter = Callable[..., Limiter]


@pytest.fixture
def limiter_of(redis_url: str) -> Iterator[MakeLimiter]:
    """Processes as the gate sees them, each with a client of its own; none waits after the test."""
    made: list[Limiter] = []

    def make(rate: str = "100/s", capacity: int = 5) -> Limiter:
        made.append(Limiter(redis.Redis.from_url(redis_url), Rate.parse(rate), capacity))
        return made[-1]

    yield make
    for limiter in made:
        limiter.interrupt()


@pytest.fixture
def slots() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def acquire(limiter: Limiter, claim: str | None = None) -> Token:
    return limiter.acquire(time.monotonic() + PATIENCE_S, claim)


def wait_for(what: Callable[[], Any]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def test_a_permit_is_not_used_before_its_time(limiter_of: MakeLimiter, slots: ThreadPoolExecutor) -> None:
    limiter = limiter_of("50/s")

    def late_us(_: int) -> int:
        token = acquire(limiter)
        return limiter.now_us() - token.at_us

    # A microsecond is what two clocks, ours and Redis', may round differently.
    assert min(slots.map(late_us, range(40))) >= -1_000


def test_a_slot_is_told_in_time_that_there_is_no_token(limiter_of: MakeLimiter) -> None:
    limiter = limiter_of("1/hour")
    with pytest.raises(NoToken, match="rate"):
        limiter.acquire(time.monotonic() + 0.2)
    assert limiter.state().granted == 0


def test_of_two_that_want_the_same_page_one_gets_it(limiter_of: MakeLimiter) -> None:
    first, second = limiter_of(), limiter_of()
    assert acquire(first, "18:1999:1").at_us
    with pytest.raises(Claimed):
        acquire(second, "18:1999:1")
    assert acquire(second, "18:1999:2").at_us
    assert acquire(first, "18:1999:1").at_us  # its own claim is none of another's


def test_waiting_slots_hear_of_a_new_rate_at_once(limiter_of: MakeLimiter, slots: ThreadPoolExecutor) -> None:
    limiter, other = limiter_of("1/hour"), limiter_of("1/hour")
    limiter._listen()
    wait_for(lambda: limiter._hearing)  # who does not hear asks again every second
    waiting = [slots.submit(acquire, limiter) for _ in range(4)]
    wait_for(lambda: len(limiter._condition._waiters) == 4)  # type: ignore[attr-defined]
    other.set_rate(Rate(100, 1))
    set_us = other.now_us()
    assert max(future.result(PATIENCE_S).at_us for future in waiting) <= set_us + 1_000_000


def test_waiting_slots_hear_of_a_pause_at_once(limiter_of: MakeLimiter, slots: ThreadPoolExecutor) -> None:
    limiter, other = limiter_of("2/s"), limiter_of("2/s")
    waiting = [slots.submit(acquire, limiter) for _ in range(4)]
    wait_for(lambda: other.state().granted >= 4 and limiter._hearing)
    other.pause(1.5)
    paused_us = other.now_us()
    tokens = [future.result(PATIENCE_S) for future in waiting]
    # Each went before the pause, or waited until it was over.
    assert all(token.at_us <= paused_us or token.at_us >= paused_us + 1_400_000 for token in tokens)
    assert any(token.at_us > paused_us for token in tokens)


@pytest.mark.parametrize("shut", ["waiting", "paused", "stopped"])
def test_an_interrupt_ends_every_wait(limiter_of: MakeLimiter, slots: ThreadPoolExecutor, shut: str) -> None:
    limiter = limiter_of("1/10s")
    if shut == "paused":
        limiter.pause()
    elif shut == "stopped":
        limiter.stop("the key was refused")
    waiting = [slots.submit(acquire, limiter) for _ in range(8)]
    wait_for(lambda: limiter._hearing)
    limiter.interrupt()
    assert {type(future.exception(PATIENCE_S)) for future in waiting} == {Stopping}
    with pytest.raises(Stopping):
        limiter.sleep(60)


def test_a_stopped_gate_lets_only_the_key_check_through_and_opens_by_it(limiter_of: MakeLimiter) -> None:
    limiter = limiter_of()
    limiter.stop("the key was refused")
    with pytest.raises(NoToken, match="the key was refused"):
        limiter.acquire(time.monotonic())
    token = limiter.acquire_for_key_check(time.monotonic() + PATIENCE_S)
    limiter.report_success(token)
    assert limiter.state().closed_reason == ""
    assert acquire(limiter).at_us > token.at_us


def test_a_channel_that_fell_silent_is_noticed(tmp_path: Path) -> None:
    """A connection whose other end has vanished without a word: no pause would be heard of."""
    with EmbeddedRedis(folder=tmp_path / "redis") as server:
        limiter = Limiter(redis.Redis.from_url(server.url), Rate(100, 1), 5)
        acquire(limiter)
        wait_for(lambda: limiter._hearing)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            wait_for(lambda: not limiter._hearing)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        wait_for(lambda: limiter._hearing)
        assert acquire(limiter).at_us


def test_without_the_channel_a_void_reservation_is_still_not_used(limiter_of: MakeLimiter) -> None:
    """It asks for the generation before it sends."""
    limiter, other = limiter_of("2/s"), limiter_of("2/s")
    limiter._listen = lambda: None  # type: ignore[method-assign]
    tokens: list[Token] = []
    slot = threading.Thread(target=lambda: tokens.append(acquire(limiter)))
    slot.start()
    wait_for(lambda: other.state().granted == 1)
    other.pause(1)
    paused_us = other.now_us()
    slot.join(PATIENCE_S)
    assert tokens[0].at_us >= paused_us + 900_000
