"""Reserves a token in Redis, then sleeps until it is valid.

`token_bucket.lua` holds the algorithm and all state. What voids reservations (a pause, a new rate, a limiter
that opens again) starts a new generation, published on a channel: threads that wait under an older one wake
up and reserve again.
"""

import math
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from worker.errors import Claimed, NoToken, RedisUnavailable, Stopping
from worker.limiter.listener import GenerationListener
from worker.limiter.rate import Rate
from worker.limiter.server_clock import ServerClock
from worker.limiter.state import LimiterState

#: The hash that holds the limiter; the braces put its claims into the same slot of a Redis Cluster.
KEY = "{reelhaul}:limiter"
#: A claim outlives the wait for its token by this much: longer than nearly every request takes.
CLAIM_MS = 3_000
#: A thread that slept longer than this while unsubscribed checks the generation before it sends.
UNCHECKED_SLEEP_S = 0.02
#: How often a thread asks a closed limiter again while unsubscribed.
RETRY_CLOSED_S = 1.0
#: A token is dropped when its thread wakes this much too late (a suspended or starved process, a delayed
#: reply of Redis): many late ones would be a burst. No token is reserved while Redis' clock is known less
#: exactly. Both add up to the 100 ms that docs/limiter.md allows between a token and the request's arrival.
LATE_S = 0.05

#: How long `about_now_us` extrapolates Redis' clock, which may have been set meanwhile, without asking.
TRUSTED_S = 0.1
#: The same after Redis did not answer: longer than a task.
UNAVAILABLE_TRUSTED_S = 75.0

#: How long the order to stop is kept for pool processes that are not subscribed yet: longer than any wait.
STOP_KEPT_S = 60
#: The order to stop; its number, inherited at the fork, is known to a main process and its pool processes.
_STOP = f"stop {random.getrandbits(64):x}"
#: Published when a request was cancelled.
_CANCELLED = "cancelled"


@dataclass(frozen=True)
class Token:
    """Permission to send one request, now.

    `at_us` is when it became valid, in microseconds since 1970 by Redis' clock, the only one that counts.
    `probe`: find out whether TMDB is back. `key`: find out whether the key works again. `check`: report a
    success too.
    """

    generation: int
    at_us: int
    probe: bool = False
    key: bool = False
    check: bool = False

    @property
    def at(self) -> datetime:
        """`at_us` in whole milliseconds, as MongoDB keeps times."""
        return datetime.fromtimestamp(self.at_us // 1000 / 1000, UTC)


class Limiter:
    """The fleet's limiter, used by one process; thread-safe. Build it after the fork.

    All methods raise RedisUnavailable when Redis does not answer: without the limiter nothing is fetched.
    """

    def __init__(self, redis: Redis, rate: Rate, capacity: int, key: str = KEY) -> None:
        self._redis, self._key = redis, key
        # PUBLISH reaches every logical database, and each may hold a fleet's limiter.
        self._channel = f"{key}:generation:{redis.connection_pool.connection_kwargs.get('db') or 0}"
        self._policy = (rate.requests, rate.period_s, capacity)
        self._script = redis.register_script(token_bucket())
        self._owner = f"{random.getrandbits(64):x}"
        self._clock = ServerClock()
        self._ask_time_after = -math.inf
        self._condition = threading.Condition()
        self._newest_generation = 0
        #: How often a request was cancelled, or may have been while nothing was heard.
        self.cancellations = 0
        self._stopping = False
        self._listener: GenerationListener | None = None

    def acquire(self, deadline: float, claim: str | None = None) -> Token:
        """Wait for a token until `deadline` (time.monotonic()).

        With `claim`, no other thread of the fleet gets a token for the same claim meanwhile: Claimed.
        Raises NoToken when none comes in time, Stopping when the process is asked to stop.
        """
        self._start_listener()
        keys = [self._key] if claim is None else [self._key, f"{self._key}:{claim}"]
        owner = f"{self._owner}:{threading.get_ident()}"
        token = None
        while not token:
            token = self._reserve("reserve", keys, deadline, owner, CLAIM_MS)
        return token

    def acquire_for_key_check(self, deadline: float) -> Token:
        """`acquire` for a request that checks the key: passes a limiter that is stopped or in an outage."""
        token = None
        while not token:
            token = self._reserve("reserve_for_key_check", [self._key], deadline)
        return token

    def report_refusal(self, token: Token, pause_s: float) -> None:
        """Report a 429: the whole fleet pauses, and continues at half the rate."""
        self._call("refused", token.generation, int(pause_s * 1e6))

    def report_failure(self, token: Token) -> None:
        """Report that TMDB failed; three failures in a row close the limiter."""
        jitter = random.randrange(1000)  # noqa: S311 -- no secret
        self._call("failure", token.generation, int(token.probe), jitter)

    def report_success(self, token: Token) -> None:
        """Report an answer of TMDB, which ends an outage. Required for tokens with `check`."""
        self._call("success", token.generation)

    def stop(self, reason: str) -> None:
        """Close the limiter until a check shows that the key works."""
        self._call("stop", reason)

    def set_rate(self, rate: Rate | None) -> None:
        """Replace the configured rate for the whole fleet; None restores it."""
        self._call("set_rate", *(rate or (0, 0)))

    def pause(self, length_s: float | None = None) -> None:
        """Let no request through for `length_s`, or until `resume`."""
        self._call("pause", 0 if length_s is None else int(length_s * 1e6))

    def resume(self) -> None:
        """Open the limiter, whatever closed it."""
        self._call("resume")

    def state(self) -> LimiterState:
        """The limiter's state; changes nothing."""
        reply = [value.decode() for value in self._call("state")]
        return LimiterState.of(dict(zip(reply[::2], reply[1::2], strict=True)))

    def now_us(self) -> int:
        """Microseconds since 1970 by Redis' clock."""
        sent = time.monotonic()
        with _translate_errors():
            seconds, micros = self._redis.time()
        self._clock.observe(sent, time.monotonic(), int(seconds) + int(micros) / 1e6)
        return int(seconds) * 1_000_000 + int(micros)

    def about_now_us(self) -> int:
        """`now_us`, mostly without a round trip, and some milliseconds behind."""
        now, known = time.monotonic(), self._clock.observed > -math.inf
        if not known or (now - self._clock.observed > TRUSTED_S and now >= self._ask_time_after):
            try:
                return self.now_us()
            except RedisUnavailable:
                if not known:
                    raise
                # A Redis that hangs takes long to fail: a task must not wait for that twice.
                self._ask_time_after = time.monotonic() + UNAVAILABLE_TRUSTED_S
        return int(self._clock.server_s(time.monotonic()) * 1e6)

    def interrupt(self) -> None:
        """End every wait, present and future, with Stopping."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def interrupt_children(self) -> None:
        """`interrupt` in the pool processes that this process has forked."""
        with _translate_errors():
            # Kept as well, for a child that is not subscribed yet.
            self._redis.set(f"{self._key}:{_STOP}", 1, ex=STOP_KEPT_S)
            self._redis.publish(self._channel, _STOP)

    def announce_cancelled(self) -> None:
        """Tell every worker that a request was cancelled."""
        with _translate_errors():
            self._redis.publish(self._channel, _CANCELLED)

    def on_generation(self, generation: int) -> None:
        """Wake the threads that wait under an older generation, to reserve again."""
        with self._condition:
            self._newest_generation = max(self._newest_generation, generation)
            self._condition.notify_all()

    def sleep(self, seconds: float) -> None:
        """Sleep; `interrupt` ends it with Stopping."""
        until = time.monotonic() + seconds
        with self._condition:
            while not self._stopping and (left := until - time.monotonic()) > 0:
                self._condition.wait(left)
            if self._stopping:
                raise Stopping("asked to stop")

    def _reserve(self, verb: str, keys: list[str], deadline: float, *argv: Any) -> Token | None:
        """Reserve a token and wait for it; None when the caller has to try again."""
        self._sync_clock(deadline)
        sent = time.monotonic()
        left_us = max(0, int((deadline - sent) * 1e6))
        verdict, wait_us, generation, reason, now_us = self._call(
            verb, left_us, self._newest_generation, *argv, keys=keys
        )
        received, wait_s, at_us = time.monotonic(), int(wait_us) / 1e6, int(now_us) + int(wait_us)
        if self._clock.observe(sent, received, int(now_us) / 1e6) > LATE_S:
            self._call("clock_leapt", generation)
            return None
        if verdict == b"claimed":
            raise Claimed(wait_s)
        if verdict == b"closed":
            if received >= deadline:
                raise NoToken(f"no token in time: {reason.decode()}")
            longest_s = deadline - received if self.subscribed else min(deadline - received, RETRY_CLOSED_S)
            self._wait(received + min(wait_s, longest_s), int(generation))
            return None
        due = self._clock.local(at_us / 1e6)
        if not self._wait(due, int(generation)):
            return None
        if time.monotonic() - due > LATE_S and verdict != b"probe":
            return None
        return Token(int(generation), at_us, verdict == b"probe", verdict == b"key", reason == b"check")

    def _sync_clock(self, deadline: float) -> None:
        """Learn Redis' clock exactly enough to know when a token is due; NoToken while Redis is too slow."""
        while (error_s := self._clock.error_s(time.monotonic())) > LATE_S:
            if error_s < math.inf and time.monotonic() >= deadline:
                raise NoToken(
                    f"no token in time: Redis takes {error_s * 1e3:.0f} ms to answer, "
                    f"and above {LATE_S * 1e3:g} ms the limit cannot be kept"
                )
            self.sleep(0)
            self.now_us()

    def _wait(self, until: float, generation: int) -> bool:
        """Sleep until `until`; False when the generation ended meanwhile."""
        slept = until - time.monotonic()
        with self._condition:
            while True:
                if self._stopping:
                    raise Stopping("asked to stop")
                if self._newest_generation > generation:
                    return False
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._condition.wait(left)
        return self.subscribed or slept < UNCHECKED_SLEEP_S or self._generation() == generation

    @property
    def subscribed(self) -> bool:
        """Whether no message of the fleet can be missed now."""
        return self._listener is not None and self._listener.subscribed

    def _start_listener(self) -> None:
        with self._condition:
            if self._listener is None:
                self._listener = GenerationListener(
                    self._redis, self._channel, self._on_subscribe, self._on_message
                )
                self._listener.start()

    def _on_subscribe(self) -> None:
        """Make up for messages published before the subscription."""
        self.cancellations += 1
        self.on_generation(self._generation())
        with _translate_errors():
            if self._redis.exists(f"{self._key}:{_STOP}"):
                self.interrupt()

    def _on_message(self, message: bytes) -> None:
        if message.isdigit():
            self.on_generation(int(message))
        elif message == _STOP.encode():
            self.interrupt()
        elif message == _CANCELLED.encode():
            self.cancellations += 1

    def _generation(self) -> int:
        with _translate_errors():
            return int(self._redis.hget(self._key, "gen") or 0)

    def _call(self, verb: str, *argv: Any, keys: list[str] | None = None) -> Any:
        with _translate_errors():
            return self._script(keys=keys or [self._key], args=[verb, self._channel, *self._policy, *argv])


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise RedisUnavailable(f"Redis: {type(error).__name__}: {error}") from error


@cache
def token_bucket() -> str:
    """The source of token_bucket.lua."""
    return files("worker.limiter").joinpath("token_bucket.lua").read_text(encoding="utf-8")
