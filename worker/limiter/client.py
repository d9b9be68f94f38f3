"""The fleet's gate: a token cannot be had elsewhere. Reserves in Redis, waits here.

`token_bucket.lua` holds the algorithm and all state; this module calls it and sleeps. What voids a
reservation (a pause, a new rate, a reopened gate) begins a new generation, published on a channel;
waiting slots hear of it at once and reserve anew.
"""

from __future__ import annotations

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

#: One hash holds the gate; the braces keep its claims in the same slot of a Redis Cluster.
KEY = "{reelhaul}:limiter"
#: A claim outlives the wait for its token by this much: longer than nearly every request takes.
CLAIM_MS = 3_000
#: Without the channel, a slot asks for the generation again after a sleep longer than this.
UNHEARD_S = 0.02
#: Without the channel, a slot at a closed gate asks again this often.
ASK_AGAIN_S = 1.0
#: A token is given up when its slot comes so late (the process stood still or starved, Redis' reply was held
#: up): many late ones would be a burst. No token is asked for before its time can be known to as much. Both
#: together are the 100 ms that the promise allows between a token and the request's arrival.
LATE_S = 0.05

#: Seconds for which it is not asked again what Redis' clock shows: it may have been set meanwhile.
TRUSTED_S = 0.1
#: The same once Redis has not answered: longer than a task.
AWAY_S = 75.0

#: Seconds that the word to stop is kept: longer than any slot waits.
STOP_KEPT_S = 60
#: What a worker's main process tells its pool processes, which have inherited it, and nobody else's.
_STOP = f"stop {random.getrandbits(64):x}"


@dataclass(frozen=True)
class Token:
    """One token: send one request, now.

    `at_us` is when, in microseconds since 1970 on Redis' clock (the fleet's one clock); `probe`: find
    out whether the API is back; `key`: find out whether the key works again; `check`: report how it went
    even if it went well.
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
    """The gate as one process sees it; safe for threads, to be built after a fork.

    All methods raise RedisUnavailable when Redis does not answer: without the gate nothing is fetched.
    """

    def __init__(self, redis: Redis, rate: Rate, capacity: int, key: str = KEY) -> None:
        self._redis, self._key = redis, key
        # Redis publishes to every logical database, and each may hold a fleet's gate.
        self._channel = f"{key}:generation:{redis.connection_pool.connection_kwargs.get('db') or 0}"
        self._clock = ServerClock()
        self._ask_again = -math.inf
        self._policy = (rate.requests, rate.period_s, capacity)
        self._script = redis.register_script(_script())
        self._owner = f"{random.getrandbits(64):x}"
        self._condition = threading.Condition()
        self._heard = 0
        self._stopping = False
        self._listener: GenerationListener | None = None

    def acquire(self, deadline: float, claim: str | None = None) -> Token:
        """Wait for a token until `deadline` (time.monotonic()).

        With `claim`, nobody else in the fleet is given a token for the same claim meanwhile: Claimed.
        Raises NoToken when no token comes in time, Stopping when the process is asked to stop.
        """
        self._listen()
        keys = [self._key] if claim is None else [self._key, f"{self._key}:{claim}"]
        owner = f"{self._owner}:{threading.get_ident()}"
        token = None
        while not token:
            token = self._try("reserve", keys, deadline, owner, CLAIM_MS)
        return token

    def acquire_for_key_check(self, deadline: float) -> Token:
        """A token for a request that tells whether the key works, even while the gate is shut."""
        token = None
        while not token:
            token = self._try("reserve_for_key_check", [self._key], deadline)
        return token

    def report_refusal(self, token: Token, pause_s: float) -> None:
        """The API refused (429): the whole fleet pauses, and goes on at half the rate."""
        self._call("refused", token.generation, int(pause_s * 1e6))

    def report_failure(self, token: Token) -> None:
        """The API is down or answers nonsense; three times in a row close the gate."""
        jitter = random.randrange(1000)  # noqa: S311 -- no secret
        self._call("failure", token.generation, int(token.probe), jitter)

    def report_success(self, token: Token) -> None:
        """The API answers: forget its troubles. Needed for tokens that say `check`."""
        self._call("success", token.generation)

    def stop(self, reason: str) -> None:
        """Close the gate until the key is seen to work again."""
        self._call("stop", reason)

    def set_rate(self, rate: Rate | None) -> None:
        """Replace the configured rate for the whole fleet; None goes back to it."""
        self._call("set_rate", *(rate or (0, 0)))

    def pause(self, length_s: float | None = None) -> None:
        """Let nothing through for `length_s`, or until `resume`."""
        self._call("pause", 0 if length_s is None else int(length_s * 1e6))

    def resume(self) -> None:
        """Open the gate, whatever shut it."""
        self._call("resume")

    def state(self) -> LimiterState:
        """The gate's state; changes nothing."""
        words = [word.decode() for word in self._call("state")]
        return LimiterState.of(dict(zip(words[::2], words[1::2], strict=True)))

    def now_us(self) -> int:
        """Microseconds since 1970 on the fleet's one clock, Redis'."""
        sent = time.monotonic()
        with _broker():
            seconds, micros = self._redis.time()
        self._clock.observe(sent, time.monotonic(), int(seconds) + int(micros) / 1e6)
        return int(seconds) * 1_000_000 + int(micros)

    def about_now_us(self) -> int:
        """`now_us`, mostly without a round trip and too early by some milliseconds."""
        now, known = time.monotonic(), self._clock.observed > -math.inf
        if not known or (now - self._clock.observed > TRUSTED_S and now >= self._ask_again):
            try:
                return self.now_us()
            except RedisUnavailable:
                if not known:
                    raise
                # A Redis that hangs takes long to say nothing: a task must not wait for that twice.
                self._ask_again = time.monotonic() + AWAY_S
        return int(self._clock.server_s(time.monotonic()) * 1e6)

    def interrupt(self) -> None:
        """Wake every waiting slot with Stopping, now and from here on."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def interrupt_children(self) -> None:
        """`interrupt` in the pool processes that this one has forked."""
        with _broker():
            # Kept as well, for a child that does not listen yet.
            self._redis.set(f"{self._key}:{_STOP}", 1, ex=STOP_KEPT_S)
            self._redis.publish(self._channel, _STOP)

    def on_generation(self, generation: int) -> None:
        """A new generation has begun: whoever waits under an older one reserves anew."""
        with self._condition:
            self._heard = max(self._heard, generation)
            self._condition.notify_all()

    def sleep(self, seconds: float) -> None:
        """Sleep that `interrupt` ends with Stopping."""
        until = time.monotonic() + seconds
        with self._condition:
            while not self._stopping and (left := until - time.monotonic()) > 0:
                self._condition.wait(left)
            if self._stopping:
                raise Stopping("asked to stop")

    def _try(self, verb: str, keys: list[str], deadline: float, *argv: Any) -> Token | None:
        self._know_the_time(deadline)
        sent = time.monotonic()
        left_us = max(0, int((deadline - sent) * 1e6))
        verdict, wait_us, generation, reason, now_us = self._call(
            verb, left_us, self._heard, *argv, keys=keys
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
            longest_s = deadline - received if self._hearing else min(deadline - received, ASK_AGAIN_S)
            self._wait(received + min(wait_s, longest_s), int(generation))
            return None
        due = self._clock.local(at_us / 1e6)
        if not self._wait(due, int(generation)):
            return None
        if time.monotonic() - due > LATE_S and verdict != b"probe":
            return None
        return Token(int(generation), at_us, verdict == b"probe", verdict == b"key", reason == b"check")

    def _know_the_time(self, deadline: float) -> None:
        """Know when a token is due before one is asked for; NoToken while Redis is too slow for that."""
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
                if self._heard > generation:
                    return False
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._condition.wait(left)
        return self._hearing or slept < UNHEARD_S or self._generation() == generation

    @property
    def _hearing(self) -> bool:
        return self._listener is not None and self._listener.hearing

    def _listen(self) -> None:
        if self._listener is None:
            with self._condition:
                if self._listener is None:
                    self._listener = GenerationListener(
                        self._redis, self._channel, self._catch_up, self._understand
                    )
                    self._listener.start()

    def _catch_up(self) -> None:
        """What was said before the channel was heard."""
        self.on_generation(self._generation())
        if self._told_to_stop():
            self.interrupt()

    def _understand(self, message: bytes) -> None:
        if message.isdigit():
            self.on_generation(int(message))
        elif message == _STOP.encode():
            self.interrupt()

    def _generation(self) -> int:
        with _broker():
            return int(self._redis.hget(self._key, "gen") or 0)

    def _told_to_stop(self) -> bool:
        with _broker():
            return bool(self._redis.exists(f"{self._key}:{_STOP}"))

    def _call(self, verb: str, *argv: Any, keys: list[str] | None = None) -> Any:
        with _broker():
            return self._script(keys=keys or [self._key], args=[verb, self._channel, *self._policy, *argv])


@contextmanager
def _broker() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise RedisUnavailable(f"Redis: {type(error).__name__}: {error}") from error


@cache
def _script() -> str:
    return files("worker.limiter").joinpath("token_bucket.lua").read_text(encoding="utf-8")
