"""The limiter when Redis restarts, loses data or is unavailable."""

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import redis

from sandbox.servers import EmbeddedRedis
from worker.errors import RedisUnavailable
from worker.limiter.client import KEY, TRUSTED_S, Limiter, Token
from worker.limiter.rate import Rate

DEADLINE_S = 20.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis that keeps its data and may be killed."""
    with EmbeddedRedis(folder=tmp_path / "redis") as server:
        yield server


def limiter_at(url: str, rate: str = "10/s", capacity: int = 5) -> Limiter:
    return Limiter(redis.Redis.from_url(url), Rate.parse(rate), capacity)


def acquire(limiter: Limiter) -> Token:
    """A token, retried while Redis is unavailable."""
    until = time.monotonic() + DEADLINE_S
    while True:
        try:
            return limiter.acquire(until)
        except RedisUnavailable:
            assert time.monotonic() < until
            time.sleep(0.05)


def lose_last_write(server: EmbeddedRedis, before: bytes) -> None:
    """Kill and restart Redis so that it has an older limiter, as when the append-only file was not synced."""
    with redis.Redis.from_url(server.url) as client:
        client.restore(KEY, 0, before, replace=True)
    server.kill()
    server.start()


def dump_limiter(server: EmbeddedRedis) -> bytes:
    with redis.Redis.from_url(server.url) as client:
        return bytes(client.dump(KEY) or b"")


def test_reservations_lost_in_a_crash_are_void_and_not_granted_twice(server: EmbeddedRedis) -> None:
    limiter = limiter_at(server.url)
    before = acquire(limiter)
    kept = dump_limiter(server)
    tokens = [acquire(limiter) for _ in range(5)]
    assert {token.generation for token in tokens} == {before.generation}
    lose_last_write(server, kept)
    after = acquire(limiter)
    assert after.generation > before.generation
    assert after.at_us > tokens[-1].at_us


def test_the_token_of_a_waiting_thread_is_not_granted_twice_after_a_crash(server: EmbeddedRedis) -> None:
    """Its reservation is lost. The next one starts a new generation, which makes it reserve again."""
    limiter, tokens = limiter_at(server.url, "1/s", 1), []
    limiter.state()
    kept = dump_limiter(server)
    thread = threading.Thread(target=lambda: tokens.append(acquire(limiter)))
    thread.start()
    while limiter.state().granted == 0:
        time.sleep(0.01)
    lose_last_write(server, kept)
    tokens.append(acquire(limiter_at(server.url, "1/s", 1)))
    thread.join(DEADLINE_S)
    first, second = sorted(token.at_us for token in tokens)
    assert second - first >= 1_000_000


def test_a_lost_limiter_starts_empty(server: EmbeddedRedis) -> None:
    limiter = limiter_at(server.url, capacity=5)
    before = acquire(limiter)
    with redis.Redis.from_url(server.url) as client:
        client.delete(KEY)
    after = [acquire(limiter) for _ in range(3)]
    assert after[0].generation > before.generation
    assert after[0].at_us - before.at_us >= 100_000
    assert [later.at_us - earlier.at_us for earlier, later in pairwise(after)] == [100_000] * 2


def test_a_flushed_script_is_loaded_again(redis_url: str) -> None:
    limiter = limiter_at(redis_url)
    acquire(limiter)
    with redis.Redis.from_url(redis_url) as client:
        client.script_flush()
    assert acquire(limiter).generation


def test_without_redis_there_is_no_token(server: EmbeddedRedis) -> None:
    limiter = limiter_at(server.url)
    acquire(limiter)
    server.kill()
    with pytest.raises(RedisUnavailable):
        limiter.acquire(time.monotonic() + 1)


def test_an_unavailable_redis_is_asked_for_the_time_once(server: EmbeddedRedis) -> None:
    """Redis may hang for tens of seconds, and saving a page takes the time several times."""
    calls = []

    class Counting(Limiter):
        def now_us(self) -> int:
            calls.append(1)
            return super().now_us()

    limiter = Counting(redis.Redis.from_url(server.url), Rate.parse("10/s"), 5)
    before = limiter.now_us()
    server.kill()
    time.sleep(TRUSTED_S)
    calls.clear()
    moments = [limiter.about_now_us() for _ in range(3)]
    assert len(calls) == 1
    assert before < moments[0] <= moments[1] <= moments[2]


def test_a_set_rate_and_a_pause_survive_a_restart(server: EmbeddedRedis) -> None:
    limiter = limiter_at(server.url)
    limiter.set_rate(Rate(3, 1))
    limiter.pause(60)
    time.sleep(1.1)  # the append-only file is synced every second
    server.kill()
    server.start()
    state = limiter_at(server.url).state()
    assert (state.configured, state.closed_reason) == (Rate(3, 1), "paused")
