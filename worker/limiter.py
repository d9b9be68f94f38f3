"""The fleet's gate: a token cannot be had elsewhere. Reserves in Redis, waits here.

`token_bucket.lua` holds the algorithm and all state; this module calls it and sleeps. What voids a
reservation (a pause, a new rate, a reopened gate) begins a new generation, published on a channel;
waiting slots hear of it at once and reserve anew.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.exceptions import RedisError
from redis.retry import Retry

from worker.errors import BrokerAway, Claimed, NoPermit, Stopping
from worker.gate import GateState
from worker.rate import Rate

#: One hash holds the gate; the braces keep its claims in the same slot of a Redis Cluster.
GATE = "{reelhaul}:gate"
#: A claim outlives the wait for its token by this much: longer than nearly every request takes.
CLAIM_MS = 3_000
#: Without the channel, a slot asks for the generation again after a sleep longer than this.
UNHEARD_S = 0.02
#: Without the channel, a slot at a closed gate asks again this often.
ASK_AGAIN_S = 1.0
#: A token is given up when its slot comes so late (the process stood still or starved): many late ones
#: would be a burst. The other half of the 100 ms that may pass until a request arrives is for sending it.
#: Answers of Redis that take longer than SLOW_S tell as little of a token's time.
LATE_S, SLOW_S = 0.05, 1.0
#: A channel that is silent for so long is asked whether it lives, and has as long to answer: a NAT or a
#: machine that failed may have dropped the connection without a word.
SILENT_S = 2.0


#: Seconds that the word to stop is kept: longer than any slot waits.
STOP_KEPT_S = 60
#: What a worker's main process tells its pool processes, which have inherited it, and nobody else's.
_STOP = f"stop {random.getrandbits(64):x}"


@dataclass(frozen=True)
class Permit:
    """One token: send one request, now.

    `at_us` is when, in microseconds since 1970 on Redis' clock (the fleet's one clock); `probe`: find
    out whether the API is back; `check`: report how it went even if it went well.
    """

    generation: int
    at_us: int
    probe: bool = False
    check: bool = False

    @property
    def at(self) -> datetime:
        """`at_us` in whole milliseconds, as MongoDB keeps times."""
        return datetime.fromtimestamp(self.at_us // 1000 / 1000, UTC)


class Limiter:
    """The gate as one process sees it; safe for threads, to be built after a fork.

    All methods raise BrokerAway when Redis does not answer: without the gate nothing is fetched.
    """

    def __init__(self, redis: Redis, rate: Rate, capacity: int, gate: str = GATE) -> None:
        self._redis, self._gate, self._channel = redis, gate, f"{gate}:generation"
        self._policy = (rate.requests, rate.period_s, capacity)
        self._script = redis.register_script(_script())
        self._owner = f"{random.getrandbits(64):x}"
        self._bell = threading.Condition()
        self._heard = 0
        self._stopping = False
        self._ear: _Ear | None = None

    def acquire(self, deadline: float, claim: str | None = None) -> Permit:
        """Wait for a token until `deadline` (time.monotonic()).

        With `claim`, nobody else in the fleet is given a token for the same claim meanwhile: Claimed.
        Raises NoPermit when no token comes in time, Stopping when the process is asked to stop.
        """
        self._listen()
        keys = [self._gate] if claim is None else [self._gate, f"{self._gate}:{claim}"]
        owner = f"{self._owner}:{threading.get_ident()}"
        while True:
            left_us = max(0, int((deadline - time.monotonic()) * 1e6))
            permit = self._try("reserve", keys, deadline, left_us, self._heard, owner, CLAIM_MS)
            if permit:
                return permit

    def preflight(self, deadline: float) -> Permit:
        """A token for a request that tells whether the key works, even while the gate is shut."""
        permit = None
        while not permit:
            left_us = max(0, int((deadline - time.monotonic()) * 1e6))
            permit = self._try("preflight", [self._gate], deadline, left_us, self._heard)
        return permit

    def throttled(self, permit: Permit, pause_s: float) -> None:
        """The API refused (429): the whole fleet pauses, and goes on at half the rate."""
        self._call("throttled", permit.generation, int(pause_s * 1e6))

    def trouble(self, permit: Permit) -> None:
        """The API is down or answers nonsense; three times in a row close the gate."""
        jitter = random.randrange(1000)  # noqa: S311 -- no secret
        self._call("trouble", permit.generation, int(permit.probe), jitter)

    def well(self, permit: Permit) -> None:
        """The API answers: forget its troubles. Needed for permits that say `check`."""
        self._call("well", permit.generation)

    def stop(self, reason: str) -> None:
        """Close the gate until the key is seen to work again."""
        self._call("stop", reason)

    def set_rate(self, rate: Rate | None) -> None:
        """Replace the configured rate for the whole fleet; None goes back to it."""
        self._call("set", *(rate or (0, 0)))

    def pause(self, length_s: float | None = None) -> None:
        """Let nothing through for `length_s`, or until `resume`."""
        self._call("pause", 0 if length_s is None else int(length_s * 1e6))

    def resume(self) -> None:
        """Open the gate, whatever shut it."""
        self._call("resume")

    def look(self) -> GateState:
        """The gate's state; changes nothing."""
        words = [word.decode() for word in self._call("look")]
        return GateState.of(dict(zip(words[::2], words[1::2], strict=True)))

    def now_us(self) -> int:
        """Microseconds since 1970 on the fleet's one clock, Redis'."""
        with _broker():
            seconds, micros = self._redis.time()
        return int(seconds) * 1_000_000 + int(micros)

    def interrupt(self) -> None:
        """Wake every waiting slot with Stopping, now and from here on."""
        with self._bell:
            self._stopping = True
            self._bell.notify_all()

    def interrupt_children(self) -> None:
        """`interrupt` in the pool processes that this one has forked."""
        with _broker():
            # Kept as well, for a child that does not listen yet.
            self._redis.set(f"{self._gate}:{_STOP}", 1, ex=STOP_KEPT_S)
            self._redis.publish(self._channel, _STOP)

    def hear(self, generation: int) -> None:
        """A new generation has begun: whoever waits under an older one reserves anew."""
        with self._bell:
            self._heard = max(self._heard, generation)
            self._bell.notify_all()

    def rest(self, seconds: float) -> None:
        """Sleep that `interrupt` ends with Stopping."""
        until = time.monotonic() + seconds
        with self._bell:
            while not self._stopping and (left := until - time.monotonic()) > 0:
                self._bell.wait(left)
            if self._stopping:
                raise Stopping("asked to stop")

    def _try(self, verb: str, keys: list[str], deadline: float, *argv: Any) -> Permit | None:
        asked = time.monotonic()
        verdict, wait_us, generation, reason, at_us = self._call(verb, *argv, keys=keys)
        now, wait_s = time.monotonic(), int(wait_us) / 1e6
        if verdict == b"claimed":
            raise Claimed(wait_s)
        if verdict == b"closed":
            if now >= deadline:
                raise NoPermit(f"no token in time: {reason.decode()}")
            longest_s = deadline - now if self._hearing else min(deadline - now, ASK_AGAIN_S)
            self._wait(now + min(wait_s, longest_s), int(generation))
            return None
        if not self._wait(now + wait_s, int(generation)):
            return None
        late = time.monotonic() - now - wait_s > LATE_S or now - asked > SLOW_S
        if late and verdict != b"probe":
            return None
        return Permit(int(generation), int(at_us), verdict == b"probe", reason == b"check")

    def _wait(self, until: float, generation: int) -> bool:
        """Sleep until `until`; False when the generation ended meanwhile."""
        slept = until - time.monotonic()
        with self._bell:
            while True:
                if self._stopping:
                    raise Stopping("asked to stop")
                if self._heard > generation:
                    return False
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._bell.wait(left)
        return self._hearing or slept < UNHEARD_S or self._generation() == generation

    @property
    def _hearing(self) -> bool:
        return self._ear is not None and self._ear.hearing

    def _listen(self) -> None:
        if self._ear is None:
            with self._bell:
                if self._ear is None:
                    self._ear = _Ear(self, self._redis, self._channel)
                    self._ear.start()

    def _generation(self) -> int:
        with _broker():
            return int(self._redis.hget(self._gate, "gen") or 0)

    def _told_to_stop(self) -> bool:
        with _broker():
            return bool(self._redis.exists(f"{self._gate}:{_STOP}"))

    def _call(self, verb: str, *argv: Any, keys: list[str] | None = None) -> Any:
        with _broker():
            return self._script(keys=keys or [self._gate], args=[verb, self._channel, *self._policy, *argv])


class _Ear(threading.Thread):
    """Listens for new generations; `hearing` says whether none can be missed."""

    def __init__(self, limiter: Limiter, redis: Redis, channel: str) -> None:
        super().__init__(name="gate-ear", daemon=True)
        pool = redis.connection_pool
        # A connection that mends itself would hide that a generation may have been missed.
        once = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 0)}
        self._redis = Redis(connection_pool=ConnectionPool(connection_class=pool.connection_class, **once))
        self._limiter, self._channel = limiter, channel
        self.hearing = False

    def run(self) -> None:
        while True:
            with suppress(RedisError, BrokerAway):
                self._follow()
            time.sleep(0.2)

    def _follow(self) -> None:
        with self._redis.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(self._channel)
            try:
                while (message := self._next(channel)) is not None:
                    self._understand(message)
            finally:
                self.hearing = False

    def _next(self, channel: PubSub) -> Any:
        """The next message; None when the channel is dead."""
        message = channel.get_message(timeout=SILENT_S)
        if message is None:
            channel.ping()
            message = channel.get_message(timeout=SILENT_S)
        return message

    def _understand(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            self._limiter.hear(self._limiter._generation())
            self.hearing = True
            if self._limiter._told_to_stop():
                self._limiter.interrupt()
        elif message["type"] == "message" and message["data"].isdigit():
            self._limiter.hear(int(message["data"]))
        elif message["data"] == _STOP.encode():
            self._limiter.interrupt()


@contextmanager
def _broker() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise BrokerAway(f"Redis: {type(error).__name__}: {error}") from error


@cache
def _script() -> str:
    return files("worker").joinpath("token_bucket.lua").read_text(encoding="utf-8")
