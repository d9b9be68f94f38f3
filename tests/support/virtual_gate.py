"""The gate's script in a real Redis, at a time of the test's own.

Only the line that reads the server's clock is replaced: time is the last argument.
"""

from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import redis
from redis.commands.core import Script

from worker.limiter.rate import Rate

CLOCK = "local time = redis.call('TIME')"
VIRTUAL_CLOCK = "local time = {math.floor(ARGV[#ARGV] / 1000000), ARGV[#ARGV] % 1000000}"
#: About the year 2026, in microseconds.
EPOCH_US = 1_790_000_000_000_000
SECOND = 1_000_000
KEY = "{test}:gate"


@dataclass
class Grant:
    at: int
    generation: int


@dataclass
class VirtualGate:
    """The script at a time of our own."""

    client: redis.Redis
    rate: Rate
    capacity: int
    now: int = EPOCH_US
    #: Of the server's clock.
    clock_error: int = 0
    #: All grants that nothing has voided before their time came.
    grants: list[Grant] = field(default_factory=list)
    _script: Script = field(init=False)

    def __post_init__(self) -> None:
        source = files("worker.limiter").joinpath("token_bucket.lua").read_text(encoding="utf-8")
        assert source.count(CLOCK) == 1
        self._script = self.client.register_script(source.replace(CLOCK, VIRTUAL_CLOCK))
        self.client.delete(KEY)

    def call(self, verb: str, *argv: Any, client: redis.Redis | None = None) -> Any:
        policy = (self.rate.requests, self.rate.period_s, self.capacity)
        answer = self._script(
            keys=[KEY], args=[verb, "channel", *policy, *argv, self.now + self.clock_error], client=client
        )
        if isinstance(answer, bytes):
            self._void(int(answer))
        return answer

    def reserve(self, longest_us: int = 30 * SECOND, heard: int = 0) -> tuple[str, int, int]:
        """Verdict, wait and generation."""
        return self._take("reserve", longest_us, heard, "", 0)

    def acquire_for_key_check(self, longest_us: int = 30 * SECOND) -> tuple[str, int, int]:
        return self._take("preflight", longest_us, 0)

    def look(self) -> dict[str, str]:
        words = [word.decode() for word in self.call("look")]
        return dict(zip(words[::2], words[1::2], strict=True))

    def saturate(self, count: int) -> list[int]:
        """When `count` tokens in a row are due, all asked for now."""
        with self.client.pipeline(transaction=False) as pipe:
            for _ in range(count):
                self.call("reserve", 10**15, 0, "", 0, client=pipe)
            return [self._note(answer) for answer in pipe.execute()]

    def _take(self, verb: str, *argv: Any) -> tuple[str, int, int]:
        answer = self.call(verb, *argv)
        self._note(answer)
        return answer[0].decode(), int(answer[1]), int(answer[2])

    def _note(self, answer: list[bytes]) -> int:
        """Keep a grant, and return its time."""
        verdict, wait, generation, _, now = answer
        self._void(int(generation))
        assert int(now) == self.now + self.clock_error
        if verdict in {b"granted", b"probe", b"key"}:
            self.grants.append(Grant(self.now + int(wait), int(generation)))
        return self.now + int(wait)

    def _void(self, generation: int) -> None:
        """Whoever still waits under an older generation does not use its token."""
        self.grants = [
            grant for grant in self.grants if grant.generation >= generation or grant.at <= self.now
        ]
