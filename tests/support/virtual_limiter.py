"""token_bucket.lua in a real Redis, in virtual time.

Only the line that reads the server's clock is replaced: the time is the last argument.
"""

from dataclasses import dataclass, field
from typing import Any

import redis
from redis.commands.core import Script

from worker.limiter.client import token_bucket
from worker.limiter.rate import Rate

CLOCK = "local time = redis.call('TIME')"
VIRTUAL_CLOCK = "local time = {math.floor(ARGV[#ARGV] / 1000000), ARGV[#ARGV] % 1000000}"
#: About the year 2026, in microseconds.
EPOCH_US = 1_790_000_000_000_000
SECOND = 1_000_000
KEY = "{test}:limiter"


@dataclass
class Grant:
    at: int
    generation: int


@dataclass
class VirtualLimiter:
    """The script, called at the time `now` (microseconds)."""

    client: redis.Redis
    rate: Rate
    capacity: int
    now: int = EPOCH_US
    #: What the server's clock shows beyond `now`.
    clock_error: int = 0
    #: All grants except those that were voided before their time.
    grants: list[Grant] = field(default_factory=list)
    _script: Script = field(init=False)

    def __post_init__(self) -> None:
        source = token_bucket()
        assert source.count(CLOCK) == 1
        self._script = self.client.register_script(source.replace(CLOCK, VIRTUAL_CLOCK))
        self.client.delete(KEY)

    def call(self, verb: str, *argv: Any, client: redis.Redis | None = None) -> Any:
        policy = (self.rate.requests, self.rate.period_s, self.capacity)
        reply = self._script(
            keys=[KEY], args=[verb, "channel", *policy, *argv, self.now + self.clock_error], client=client
        )
        if isinstance(reply, bytes):
            self._void(int(reply))
        return reply

    def reserve(self, longest_us: int = 30 * SECOND, known: int = 0) -> tuple[str, int, int]:
        """Verdict, wait and generation."""
        return self._reserve("reserve", longest_us, known, "", 0)

    def reserve_for_key_check(self, longest_us: int = 30 * SECOND) -> tuple[str, int, int]:
        return self._reserve("reserve_for_key_check", longest_us, 0)

    def state(self) -> dict[str, str]:
        reply = [value.decode() for value in self.call("state")]
        return dict(zip(reply[::2], reply[1::2], strict=True))

    def saturate(self, count: int) -> list[int]:
        """Reserve `count` tokens now; when each is valid."""
        with self.client.pipeline(transaction=False) as pipe:
            for _ in range(count):
                self.call("reserve", 10**15, 0, "", 0, client=pipe)
            return [self._record(reply) for reply in pipe.execute()]

    def _reserve(self, verb: str, *argv: Any) -> tuple[str, int, int]:
        reply = self.call(verb, *argv)
        self._record(reply)
        return reply[0].decode(), int(reply[1]), int(reply[2])

    def _record(self, reply: list[bytes]) -> int:
        """Keep a grant; return when it is valid."""
        verdict, wait, generation, _, now = reply
        self._void(int(generation))
        assert int(now) == self.now + self.clock_error
        if verdict in {b"granted", b"probe", b"key"}:
            self.grants.append(Grant(self.now + int(wait), int(generation)))
        return self.now + int(wait)

    def _void(self, generation: int) -> None:
        """Drop the grants of older generations whose time has not come: their callers do not use them."""
        self.grants = [
            grant for grant in self.grants if grant.generation >= generation or grant.at <= self.now
        ]
